/** Entries of a job's event log: append only, resumable from a cursor. @module */
import { z } from 'zod';
import { errorJson } from './errors.js';
import { hookReport } from './result.js';
import { JOB_STATES } from './states.js';

const base = {
  /** Unix milliseconds. */
  at: z.number(),
  attempt: z.int(),
};

export const jobEvent = z.discriminatedUnion('type', [
  z.object({
    ...base,
    type: z.literal('state'),
    state: z.enum(JOB_STATES),
    reason: z.string().optional(),
    error: errorJson.optional(),
  }),
  /** What an editing function printed. */
  z.object({ ...base, type: z.literal('log'), text: z.string() }),
  z.object({
    ...base,
    type: z.literal('progress'),
    run: z.string(),
    done: z.int(),
    total: z.int(),
    loss: z.number().nullable().optional(),
  }),
  z.object({
    ...base,
    type: z.literal('token'),
    run: z.string(),
    row: z.int(),
    step: z.int(),
    position: z.int(),
    tokenId: z.int(),
    text: z.string(),
  }),
  /** A file that can be read while the job runs on; `run` and `step` say which training it is a checkpoint of. */
  z.object({
    ...base,
    type: z.literal('artifact'),
    file: z.string(),
    sha256: z.string(),
    bytes: z.int(),
    run: z.string().optional(),
    step: z.int().optional(),
  }),
  z.object({ ...base, type: z.literal('hook'), report: hookReport }),
]);

/** An entry as it was written. */
export type JobEventBody = z.infer<typeof jobEvent>;
/** An entry as it is read: the cursor resumes after it. */
export type JobEvent = JobEventBody & { readonly cursor: string };

type WithoutBase<T> = T extends unknown ? Omit<T, 'at' | 'attempt'> : never;
/** What a gang reports; time and attempt are added where it is written. */
export type GangEvent = WithoutBase<JobEventBody>;
