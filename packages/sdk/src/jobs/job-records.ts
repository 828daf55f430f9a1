/** Reads the record of a job and asks for its end. Not here: submission (submit.ts), events. @module */
import {
  STATUS_FIELDS,
  cancelCall,
  deleteCall,
  error,
  keys,
  readJobStatus,
  type JobEvent,
  type JobStatus,
} from '@patchbay/protocol';
import { parseEntry } from '../transport/event-feed.js';
import { readOutcome, type Outcome } from '../transport/outcome.js';
import type { RedisConnection } from '../transport/redis-connection.js';

export class JobRecords {
  constructor(private readonly redis: RedisConnection) {}

  /** @throws `PB_JOB_NOT_FOUND`, `PB_REDIS_UNAVAILABLE` */
  async status(jobId: string): Promise<JobStatus> {
    const values = await this.redis.run((client) => client.hmget(keys.job(jobId), ...STATUS_FIELDS));
    const fields = STATUS_FIELDS.flatMap((name, index) =>
      values[index] == null ? [] : [[name, values[index]] as const],
    );
    const status = readJobStatus(jobId, Object.fromEntries(fields));
    if (status === undefined) throw error('PB_JOB_NOT_FOUND', { jobId }, { jobId });
    return status;
  }

  async outcome(jobId: string): Promise<Outcome> {
    return this.redis.run((client) => readOutcome(client, jobId));
  }

  /** The events after the cursor that are there now. @throws `PB_JOB_NOT_FOUND`, `PB_REDIS_UNAVAILABLE` */
  async events(jobId: string, after: string | undefined): Promise<JobEvent[]> {
    await this.status(jobId);
    const start = after === undefined ? '-' : `(${after}`;
    const entries = await this.redis.run((client) => client.xrange(keys.events(jobId), start, '+'));
    return entries.flatMap((entry) => parseEntry(entry) ?? []);
  }

  /** @throws `PB_JOB_NOT_FOUND`, `PB_REDIS_UNAVAILABLE` */
  async cancel(jobId: string, reason: string): Promise<JobStatus> {
    const state = await this.redis.run((client) => client.eval(...cancelCall(jobId, reason, Date.now())));
    if (state === 'missing') throw error('PB_JOB_NOT_FOUND', { jobId }, { jobId });
    return this.status(jobId);
  }

  /** @throws `PB_JOB_NOT_FOUND`, `PB_JOB_RUNNING`, `PB_REDIS_UNAVAILABLE` */
  async delete(jobId: string): Promise<void> {
    const state = String(await this.redis.run((client) => client.eval(...deleteCall(jobId))));
    if (state === 'missing') throw error('PB_JOB_NOT_FOUND', { jobId }, { jobId });
    if (state !== 'deleted') throw error('PB_JOB_RUNNING', { jobId, state }, { jobId });
  }
}
