/**
 * The only writer of job states past `queued`. Every step is one fenced script of the protocol package.
 * Not here: which state an outcome becomes (run-job.ts).
 * @module
 */
import {
  beginCall,
  cancelCall,
  deleteCall,
  isTerminal,
  keys,
  transitionCall,
  type ErrorCode,
  type ErrorJson,
  type JobState,
  type TransitionStep,
} from '@patchbay/protocol';
import type { Redis } from '../redis.js';
import type { Scripts } from '../scripts.js';

/** What an attempt needs of its job. */
export interface BegunJob {
  /** Fencing token of all that follows. */
  readonly attempt: number;
  readonly document: string;
  readonly createdAt: number;
  readonly cancelRequested: string | undefined;
  /** How often whoever ran it vanished. */
  readonly lostConsumers: number;
  readonly expiresAt: number | undefined;
  /** When it last came into the queue. */
  readonly queuedAt: number;
  /** W3C trace context of its submission. */
  readonly traceparent: string | undefined;
}

/** `parked`: it goes on when another job of its submitter ends. `over`: it is over, or gone. */
export type Begun = BegunJob | 'parked' | 'over';

/** A job of the same submitter that may go on now. */
export interface Moved {
  /** `ok`, `missing`, `stale`, or the state that does not allow the step. */
  readonly answer: string;
  readonly released?: string | undefined;
}

export class JobRecords {
  constructor(
    private readonly redis: Redis,
    private readonly scripts: Scripts,
  ) {}

  /** Moves a job on if `attempt` is still the current one. */
  async transition(jobId: string, to: JobState, attempt: number, step: TransitionStep = {}): Promise<Moved> {
    const answer = await this.scripts.run(transitionCall(jobId, to, attempt, Date.now(), step));
    const [verdict, released] = answer as [string, string?];
    return { answer: verdict, released };
  }

  /** Starts the next attempt in one round trip. */
  async begin(jobId: string): Promise<Begun> {
    const answer = (await this.scripts.run(beginCall(jobId, Date.now()))) as (string | number)[];
    const [verdict, attempt, document, createdAt, cancelRequested, lostConsumers, expiresAt, queuedAt, traceparent] =
      answer.map(String);
    if (verdict === 'parked') return 'parked';
    if (verdict !== 'ok') return 'over';
    return {
      attempt: Number(attempt),
      document: document!,
      createdAt: Number(createdAt),
      cancelRequested: cancelRequested === '' ? undefined : cancelRequested,
      lostConsumers: Number(lostConsumers),
      expiresAt: expiresAt === '' ? undefined : Number(expiresAt),
      queuedAt: Number(queuedAt),
      traceparent: traceparent === '' ? undefined : traceparent,
    };
  }

  /** The cancel flags of these jobs, for after a time in which no message could arrive. */
  async cancelRequests(jobIds: readonly string[]): Promise<(string | undefined)[]> {
    return Promise.all(jobIds.map(async (id) => (await this.redis.hget(keys.job(id), 'cancelRequested')) ?? undefined));
  }

  /** Cancels a queued job, asks for the end of a running one. Resolves to `missing` or the state after the call. */
  async cancel(jobId: string, reason: string): Promise<string> {
    return String(await this.scripts.run(cancelCall(jobId, reason, Date.now())));
  }

  /** Forgets a job that has ended. Resolves to `deleted`, `missing`, or the state of one that has not. */
  async delete(jobId: string): Promise<string> {
    return String(await this.scripts.run(deleteCall(jobId)));
  }

  /** How often the job has failed in this way, with this time. */
  async countFailure(jobId: string, code: ErrorCode): Promise<number> {
    return this.redis.hincrby(keys.job(jobId), `failures:${code}`, 1);
  }

  /** Ends a job that waits in no queue any more. */
  async failQueued(jobId: string, error: ErrorJson): Promise<void> {
    const [state, attempt] = await this.redis.hmget(keys.job(jobId), 'state', 'attempt');
    if (state == null || isTerminal(state as JobState)) return;
    await this.transition(jobId, 'failed', Number(attempt), { reason: error.message, error });
  }
}
