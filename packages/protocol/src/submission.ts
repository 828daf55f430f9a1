/**
 * How a checked document becomes a job: the arguments of its submission and the BullMQ entry, the same from the SDK and from
 * HTTP. Equal documents have equal hashes, which is what makes a submission idempotent. Not here: connections, BullMQ.
 * @module
 */
import { createHash } from 'node:crypto';
import type { JobDocument } from './job.js';
import { readTraceparent } from './traceparent.js';

/** Name of the BullMQ jobs. */
export const QUEUE_JOB_NAME = 'job';

/** A submitter's jobs of equal priority have this many places; behind the last one it is first come, first served. */
export const PLACES_PER_PRIORITY = 2 ** 18;
/** Whoever names no submitter. */
export const DEFAULT_SUBMITTER = 'default';
/** The label that names one, for submissions without an API key of their own. */
export const SUBMITTER_LABEL = 'submitter';

/** What `submitCall` wants. */
export interface Submission {
  readonly jobId: string;
  readonly model: string;
  readonly submitter: string;
  readonly priority: number;
  readonly args: readonly (string | number)[];
}

export interface SubmissionOptions {
  /** Unix milliseconds. */
  readonly now: number;
  /** The name of an API key; otherwise the label of the document counts. */
  readonly submitter?: string | undefined;
  /** W3C trace context of whoever submits, when that is traced. */
  readonly traceparent?: string | undefined;
}

/** @param document - with its defaults filled in, so that a written default and a missing one are the same job */
export function submission(document: JobDocument, jobId: string, options: SubmissionOptions): Submission {
  const { jobId: _ignored, ...content } = document;
  const { now, submitter = document.labels[SUBMITTER_LABEL] ?? DEFAULT_SUBMITTER } = options;
  const traceparent = readTraceparent(options.traceparent) === undefined ? '' : options.traceparent!;
  const text = JSON.stringify(content);
  const sha256 = createHash('sha256').update(text).digest('hex');
  const { startTimeoutMs } = document.limits;
  const expiresAt = startTimeoutMs === undefined ? '' : now + startTimeoutMs;
  const labels = JSON.stringify(document.labels);
  const artifacts = artifactsIn(text).join(' ');
  return {
    jobId,
    model: document.model,
    submitter,
    priority: document.priority,
    args: [text, sha256, document.model, labels, now, submitter, document.priority, expiresAt, artifacts, traceparent],
  };
}

/** Digests of the artifacts that a JSON text refers to, each once. */
export function artifactsIn(text: string): string[] {
  return [...new Set(Array.from(text.matchAll(/sha256:([0-9a-f]{64})/g), ([, digest]) => digest!))];
}

/** BullMQ refuses ids that are integers, so those get a prefix. The entry's data has the job id itself. */
export function queueJobId(jobId: string): string {
  return /^\d+$/.test(jobId) ? `id-${jobId}` : jobId;
}

/**
 * Options of the BullMQ entry. The record is what lasts, so BullMQ forgets a job with its end; how often and after which
 * pause it is tried again is decided over the record, so what BullMQ itself repeats is only what nobody foresaw.
 * @param place - as the submission's answer has it
 */
export function queueJobOptions(
  jobId: string,
  place: number,
): {
  jobId: string;
  priority: number;
  removeOnComplete: true;
  removeOnFail: true;
  attempts: number;
  backoff: { type: 'fixed'; delay: number };
} {
  return {
    jobId: queueJobId(jobId),
    priority: place,
    removeOnComplete: true,
    removeOnFail: true,
    attempts: Number.MAX_SAFE_INTEGER,
    backoff: { type: 'fixed', delay: 1_000 },
  };
}
