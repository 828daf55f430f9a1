/**
 * The only writer of job states past `queued`. Every step is one fenced Lua call of the protocol package.
 * The scripts go by EVAL, not EVALSHA: a NOSCRIPT answer (Redis restarted) would be repeated behind commands that were
 * sent later, and the event log would lose its order.
 * Not here: which state an outcome becomes (run-job.ts).
 * @module
 */
import { CANCEL_LUA, REMOVE_LUA, TRANSITION_LUA, keys, type ErrorJson, type JobState } from '@patchbay/protocol';
import type { Redis } from '../redis.js';

/** What an attempt needs of its job. */
export interface BegunJob {
  readonly document: string;
  readonly createdAt: number;
  readonly cancelRequested: string | undefined;
}

export interface Step {
  readonly reason?: string;
  readonly result?: string;
  readonly error?: ErrorJson;
}

const LOST_WORKERS = 'lostWorkers';

export class JobRecords {
  constructor(private readonly redis: Redis) {}

  /**
   * Moves a job on if `attempt` is still the current one.
   * Resolves to `ok`, `missing`, `stale`, or the state that does not allow the step.
   */
  async transition(jobId: string, to: JobState, attempt: number, step: Step = {}): Promise<string> {
    const error = step.error === undefined ? '' : JSON.stringify({ ...step.error, jobId });
    const answer = await this.redis.eval(
      TRANSITION_LUA,
      3,
      keys.job(jobId),
      keys.events(jobId),
      keys.jobs,
      to,
      attempt,
      Date.now(),
      step.reason ?? '',
      step.result ?? '',
      error,
      jobId,
    );
    return String(answer);
  }

  /** Starts an attempt in one round trip; undefined when the job is over, gone, or a newer attempt has it. */
  async begin(jobId: string, attempt: number): Promise<BegunJob | undefined> {
    const [answer, [document, createdAt, cancelRequested]] = await Promise.all([
      this.transition(jobId, 'placing', attempt),
      this.redis.hmget(keys.job(jobId), 'document', 'createdAt', 'cancelRequested'),
    ]);
    if (answer !== 'ok') return undefined;
    return { document: document ?? '', createdAt: Number(createdAt), cancelRequested: cancelRequested ?? undefined };
  }

  /** The cancel flags of these jobs, for after a time in which no message could arrive. */
  async cancelRequests(jobIds: readonly string[]): Promise<(string | undefined)[]> {
    return Promise.all(jobIds.map(async (id) => (await this.redis.hget(keys.job(id), 'cancelRequested')) ?? undefined));
  }

  /** Cancels a queued job, asks for the end of a running one. Resolves to `missing` or the state after the call. */
  async cancel(jobId: string, reason: string): Promise<string> {
    const channel = keys.cancelChannel;
    return String(
      await this.redis.eval(CANCEL_LUA, 2, keys.job(jobId), keys.events(jobId), jobId, reason, Date.now(), channel),
    );
  }

  /** Forgets a job that is over. Resolves to `removed`, `missing`, or the state of one that is not. */
  async remove(jobId: string): Promise<string> {
    return String(await this.redis.eval(REMOVE_LUA, 3, keys.job(jobId), keys.events(jobId), keys.jobs, jobId));
  }

  /** Counts that the job's ranks were lost while it ran. */
  async countLostWorker(jobId: string): Promise<number> {
    return this.redis.hincrby(keys.job(jobId), LOST_WORKERS, 1);
  }

  /** Ends a job that waits in no queue any more. */
  async failQueued(jobId: string, error: ErrorJson): Promise<void> {
    const attempt = Number(await this.redis.hget(keys.job(jobId), 'attempt'));
    await this.transition(jobId, 'failed', attempt, { reason: error.message, error });
  }
}
