/** What the HTTP service takes: parts of paths, queries and bodies. @module */
import { z } from 'zod';
import { jobDocument, type JobDocument } from '../job.js';
import { JOB_STATES } from '../states.js';

/** As `parseJobDocument` makes it, which also fills in the names. */
export const checkedDocument = jobDocument as unknown as z.ZodType<JobDocument, JobDocument>;

export const jobId = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,128}$/, 'a job id has letters, digits, _ and - only')
  .describe('The id of a job.');
export const byJob = z.object({ id: jobId });

export const byName = z.object({ name: z.string().min(1).max(128).describe('The name of a deployment.') });

export const byDigest = z.object({
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'a SHA-256 digest has 64 lower case hex digits')
    .describe('SHA-256 of the content, in hex.'),
});

const labelText = z.string().regex(/^[^:]+:/, 'write a label as key:value');

export const submitQuery = z.object({
  jobId: jobId.optional().describe('Default: a new one. The same id and document never run twice.'),
});

export const listQuery = z.object({
  state: z.enum(JOB_STATES).optional(),
  model: z.string().optional(),
  text: z
    .string()
    .min(1)
    .max(256)
    .optional()
    .describe('Stands in the id, a label, the model or the error, whatever the case.'),
  label: z
    .union([labelText, z.array(labelText)])
    .optional()
    .describe('`key:value`; of several all have to fit.'),
  limit: z.coerce.number().int().min(1).max(500).default(50),
  cursor: z.string().optional().describe('`nextCursor` of the page before.'),
});

export const overviewQuery = z.object({
  minutes: z.coerce.number().int().min(1).max(1440).default(60).describe('How far back.'),
});

export const cancelBody = z.object({ reason: z.string().max(1000).optional() }).nullish();
export const drainBody = z.strictObject({ draining: z.boolean() });
export const signInBody = z.object({ token: z.string().min(1).max(4096) });

export const traceHeaders = z.object({
  traceparent: z
    .string()
    .optional()
    .describe('W3C trace context that the job belongs to; one that is broken counts for nothing.'),
});

/** Where to resume a stream of events: the id of the last one that was seen. */
export const eventsHeaders = z.object({
  'last-event-id': z
    .string()
    .regex(/^\d+(-\d+)?$/, 'not a cursor of an event')
    .default('0'),
});
export const changesHeaders = z.object({
  'last-event-id': z
    .string()
    .regex(/^\d+-\d+$/, 'not a cursor of a change')
    .optional(),
});
