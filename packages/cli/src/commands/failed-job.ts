/** What `--out` writes of a job that failed: result.json with the error, and what its edits printed. @module */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jobResult, type PatchbayError } from '@patchbay/protocol';
import type { JobHandle } from '@patchbay/sdk';

/** Events of a failed job may be gone; its error is not. */
async function printed(job: JobHandle, signal: AbortSignal): Promise<string> {
  let text = '';
  for await (const event of job.events({ follow: false, signal })) if (event.type === 'log') text += event.text;
  return text;
}

/** @returns false for a job that has not ended: then there is nothing to write. */
export async function writeFailedJob(
  job: JobHandle,
  problem: PatchbayError,
  dir: string,
  signal: AbortSignal,
): Promise<boolean> {
  const { state, attempt, model } = await job.status({ signal });
  if (state !== 'failed' && state !== 'cancelled' && state !== 'expired') return false;
  const result = jobResult.parse({ jobId: job.id, state, attempt, model, error: problem.toJSON() });
  const logs = await printed(job, signal);
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
  if (logs !== '') await writeFile(join(dir, 'logs.txt'), logs);
  return true;
}
