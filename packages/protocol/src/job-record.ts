/** The record of a job in Redis, as it is read. Not here: writing it (job-scripts.ts), connections. @module */
import { z } from 'zod';
import { errorJson } from './errors.js';
import { JOB_STATES } from './states.js';
import { DEFAULT_SUBMITTER } from './submission.js';

/** The event log of a job takes this many entries and bytes besides its states; nothing in it is ever dropped. */
export const MAX_EVENTS = 20_000;
export const MAX_EVENT_BYTES = 2 ** 23;
/** The stream of all jobs' steps keeps about this many. */
export const MAX_CHANGES = 5_000;
/** Records and events of finished jobs are kept this long, in seconds, unless the orchestrator was told otherwise. */
export const FINISHED_TTL_SECONDS = 7 * 24 * 3600;

const transition = z.object({
  state: z.enum(JOB_STATES),
  at: z.number(),
  attempt: z.int(),
  reason: z.string().optional(),
});

/** What `jobs.get` and `jobs.list` tell about a job. */
export const jobStatus = z.object({
  id: z.string(),
  model: z.string(),
  state: z.enum(JOB_STATES),
  attempt: z.int(),
  labels: z.record(z.string(), z.string()),
  /** Whose share of the deployment it uses. */
  submitter: z.string().default(DEFAULT_SUBMITTER),
  createdAt: z.number(),
  updatedAt: z.number(),
  /** Unless it runs by then, it ends as `expired`. */
  expiresAt: z.number().optional(),
  cancelRequested: z.string().optional(),
  error: errorJson.optional(),
  transitions: z.array(transition),
});
export type JobStatus = z.output<typeof jobStatus>;

const json = (text: string | undefined, fallback: unknown): unknown =>
  text === undefined || text === '' ? fallback : JSON.parse(text);

/** The fields of the Redis hash as a status; undefined when there is no such job. */
export function readJobStatus(id: string, fields: Readonly<Record<string, string>>): JobStatus | undefined {
  if (fields['state'] === undefined) return undefined;
  const transitions = (fields['transitions'] ?? '').split('\n').filter((line) => line !== '');
  return jobStatus.parse({
    id,
    model: fields['model'],
    state: fields['state'],
    attempt: Number(fields['attempt'] ?? 0),
    labels: json(fields['labels'], {}),
    submitter: fields['submitter'],
    createdAt: Number(fields['createdAt']),
    updatedAt: Number(fields['updatedAt']),
    expiresAt: fields['expiresAt'] === undefined ? undefined : Number(fields['expiresAt']),
    cancelRequested: fields['cancelRequested'],
    error: json(fields['error'], undefined),
    transitions: transitions.map((line): unknown => JSON.parse(line)),
  });
}

/** Fields of the hash that a status needs: not the document and the result, which may be large. */
export const STATUS_FIELDS = [
  'model',
  'state',
  'attempt',
  'labels',
  'submitter',
  'createdAt',
  'updatedAt',
  'expiresAt',
  'cancelRequested',
  'error',
  'transitions',
] as const;
