/** Takes a document that came over HTTP: the same steps on the same keys as the SDK's. Not here: checking it. @module */
import { randomUUID } from 'node:crypto';
import { SUBMIT_LUA, error, submission, type JobDocument } from '@patchbay/protocol';
import type { Redis } from '../redis.js';
import type { Queues } from './queues.js';

/** @throws `PB_JOB_ID_CONFLICT`, `PB_MODEL_NOT_FOUND` */
export async function submitDocument(
  redis: Redis,
  queues: Queues,
  document: JobDocument,
  jobId: string = document.jobId ?? randomUUID(),
): Promise<{ jobId: string; created: boolean }> {
  const job = submission(document, jobId, Date.now());
  const verdict = String(await redis.eval(SUBMIT_LUA, job.keys.length, ...job.keys, ...job.args));
  if (verdict === 'conflict') throw error('PB_JOB_ID_CONFLICT', { jobId }, { jobId });
  if (verdict === 'no-model') throw error('PB_MODEL_NOT_FOUND', { model: document.model }, { path: 'model' });
  // also when the record was there: a submission that broke off before its queue entry is completed by the next one
  await queues.add(document.model, jobId);
  return { jobId, created: verdict === 'created' };
}
