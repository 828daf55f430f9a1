/** What a finished job left in its record. @module */
import { keys } from '@patchbay/protocol';
import type { Redis } from 'ioredis';

/** JSON texts; null for what there is not, such as before the end. */
export interface Outcome {
  readonly result: string | null;
  readonly error: string | null;
}

export async function readOutcome(client: Redis, jobId: string): Promise<Outcome> {
  const [result = null, error = null] = await client.hmget(keys.job(jobId), 'result', 'error');
  return { result, error };
}
