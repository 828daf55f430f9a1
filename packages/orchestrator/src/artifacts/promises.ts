/**
 * Artifacts of which somebody was told that they are there: he will refer to them without sending them again, so they count as
 * new from then on. Not here: collecting the others (jobs/upkeep/retention.ts).
 * @module
 */
import { keys } from '@patchbay/protocol';
import type { Redis } from '../redis.js';

export class Promises {
  constructor(private readonly redis: Redis) {}

  /** To be called before it is looked at: what is collected in between is then told as missing. */
  async make(sha256: string, now = Date.now()): Promise<void> {
    await this.redis.zadd(keys.promised, now, sha256);
  }

  /** Whether one was made after this time, unix milliseconds. */
  async holds(sha256: string, after: number): Promise<boolean> {
    const made = await this.redis.zscore(keys.promised, sha256);
    return made !== null && Number(made) > after;
  }

  async forget(before: number): Promise<void> {
    await this.redis.zremrangebyscore(keys.promised, '-inf', before);
  }
}
