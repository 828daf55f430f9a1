/** Takes a document that came over HTTP: the same steps on the same keys as the SDK's. Not here: checking it. @module */
import { randomUUID } from 'node:crypto';
import { readSubmitVerdict, submission, submitCall, type JobDocument } from '@patchbay/protocol';
import type { Queues } from './queues.js';
import type { Scripts } from '../scripts.js';

export interface SubmitOptions {
  readonly jobId?: string | undefined;
  /** Of the API key; a label of the document names another one only without. */
  readonly submitter?: string | undefined;
  /** W3C trace context of the request. */
  readonly traceparent?: string | undefined;
}

/** @throws the refusals of `readSubmitVerdict` */
export async function submitDocument(
  scripts: Scripts,
  queues: Queues,
  document: JobDocument,
  options: SubmitOptions = {},
): Promise<{ jobId: string; created: boolean }> {
  const { jobId = document.jobId ?? randomUUID(), submitter, traceparent } = options;
  const job = submission(document, jobId, { now: Date.now(), submitter, traceparent });
  const { created, state, place } = readSubmitVerdict(job, await scripts.run(submitCall(job)));
  // also when the record was there: a submission that broke off before its queue entry is completed by the next one
  if (state === 'queued') await queues.add(document.model, jobId, place);
  return { jobId, created };
}
