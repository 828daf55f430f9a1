/** Reads the answer of a submission: the same refusals from the SDK and from HTTP. @module */
import { error } from './errors.js';
import type { JobState } from './states.js';
import type { Submission } from './submission.js';

export interface Accepted {
  /** False when the id was there already with this document. */
  readonly created: boolean;
  readonly state: JobState;
  /** Where the job stands in the queue of its deployment. */
  readonly place: number;
}

/** @throws `PB_JOB_ID_CONFLICT`, `PB_MODEL_NOT_FOUND`, `PB_QUEUE_FULL`, `PB_RATE_LIMITED`, `PB_PRIORITY_REFUSED` */
export function readSubmitVerdict({ jobId, model, submitter, priority }: Submission, answer: unknown): Accepted {
  const [verdict, ...rest] = answer as [string, ...(string | number)[]];
  const [first = '', second = 0, third = 0] = rest;
  switch (verdict) {
    case 'created':
    case 'same':
      return { created: verdict === 'created', state: first as JobState, place: Number(second) };
    case 'conflict':
      throw error('PB_JOB_ID_CONFLICT', { jobId }, { jobId, path: 'jobId' });
    case 'no-model':
      throw error('PB_MODEL_NOT_FOUND', { model }, { path: 'model' });
    case 'full':
      throw error('PB_QUEUE_FULL', { what: first, queued: second, limit: third }, { jobId });
    case 'rate':
      throw error('PB_RATE_LIMITED', { submitter, limit: second, waitMs: first }, { jobId });
    case 'priority':
      throw error('PB_PRIORITY_REFUSED', { priority, submitter, limit: first }, { jobId, path: 'priority' });
    default:
      throw error('PB_INTERNAL', { reason: `a submission was answered with ${verdict}` }, { jobId });
  }
}
