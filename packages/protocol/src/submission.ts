/**
 * How a checked document becomes a job: the arguments of SUBMIT_LUA and the BullMQ entry, the same from the SDK and from
 * HTTP. Equal documents have equal hashes, which is what makes a submission idempotent. Not here: connections, BullMQ.
 * @module
 */
import { createHash } from 'node:crypto';
import type { JobDocument } from './job.js';
import { keys } from './keys.js';

/** Name of the BullMQ jobs. */
export const QUEUE_JOB_NAME = 'job';

/** What SUBMIT_LUA wants. */
export interface Submission {
  readonly jobId: string;
  readonly model: string;
  readonly keys: readonly [string, string, string, string];
  readonly args: readonly [string, string, string, string, string, number];
}

/**
 * @param document - with its defaults filled in, so that a written default and a missing one are the same job
 * @param now - unix milliseconds
 */
export function submission(document: JobDocument, jobId: string, now: number): Submission {
  const { jobId: _ignored, ...content } = document;
  const text = JSON.stringify(content);
  const sha256 = createHash('sha256').update(text).digest('hex');
  return {
    jobId,
    model: document.model,
    keys: [keys.job(jobId), keys.events(jobId), keys.jobs, keys.deployments],
    args: [jobId, text, sha256, document.model, JSON.stringify(document.labels), now],
  };
}

/** BullMQ refuses ids that are integers, so those get a prefix. The entry's data has the job id itself. */
export function queueJobId(jobId: string): string {
  return /^\d+$/.test(jobId) ? `id-${jobId}` : jobId;
}

/** Options of the BullMQ entry. The record is what lasts, so BullMQ forgets a job with its end. */
export function queueJobOptions(jobId: string): {
  jobId: string;
  removeOnComplete: true;
  removeOnFail: true;
  attempts: number;
  backoff: { type: 'exponential'; delay: number };
} {
  return {
    jobId: queueJobId(jobId),
    removeOnComplete: true,
    removeOnFail: true,
    attempts: 3,
    backoff: { type: 'exponential', delay: 250 },
  };
}
