/** A submitted job: follow it, wait for it, stop it. Not here: submission, how events arrive. @module */
import { PatchbayError, error, isPatchbayError, isTerminal, type JobEvent, type JobStatus } from '@patchbay/protocol';
import type { Artifacts } from '../artifacts.js';
import { JobResult } from '../results/job-result.js';
import { bounded, throwIfAborted, type CallOptions } from '../transport/deadline.js';
import { EventFeed, type TerminalEvent } from '../transport/event-feed.js';
import type { EventFollower, Wants } from '../transport/event-follower.js';
import type { Outcome } from '../transport/outcome.js';
import type { JobRecords } from './job-records.js';

/** How a job ended. */
type End = Pick<TerminalEvent, 'state' | 'reason' | 'error'>;

/** A handle that nobody uses stops to follow its job after this time. */
const UNUSED_MS = 10_000;

/** What a handle works with. @internal */
export interface JobServices {
  readonly records: JobRecords;
  readonly follower: EventFollower;
  readonly artifacts: Artifacts;
  readonly eagerBytes: number;
}

export interface EventsOptions {
  /** Only events after this cursor. @defaultValue all */
  readonly after?: string | undefined;
  /** False: only what is there now. @defaultValue true: until the job ends */
  readonly follow?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ResultOptions extends CallOptions {
  /** When the signal aborts, cancel the job too. @defaultValue false: the job runs on */
  readonly cancelOnAbort?: boolean | undefined;
  /** As the client's option, for this result. */
  readonly eagerBytes?: number | undefined;
}

export interface CancelOptions extends CallOptions {
  /** Stands in the record and in the error of the job. @defaultValue `'cancelled by the client'` */
  readonly reason?: string | undefined;
}

export class JobHandle {
  readonly #feed: EventFeed;
  /** Held from the submission until the first use. */
  #lease: NodeJS.Timeout | undefined;
  /** It is there, and its end is still to come, or came after the submission. */
  #awaited: boolean;

  /** @internal Use `jobs.submit` or `jobs.get`. */
  constructor(
    /** Can be stored: `jobs.get(id)` in any later process gives the handle again. */
    readonly id: string,
    private readonly services: JobServices,
    private readonly signal?: AbortSignal,
    followed?: EventFeed,
    /** Its end was still to come when it was submitted. */
    awaited = false,
  ) {
    this.#feed = followed ?? new EventFeed(id);
    this.#awaited = awaited;
    if (followed !== undefined) this.#lease = setTimeout(() => this.#endLease(), UNUSED_MS).unref();
  }

  /** The record as it is now. @throws `PB_JOB_NOT_FOUND`, `PB_REDIS_UNAVAILABLE`, `PB_ABORTED` */
  async status(options: CallOptions = {}): Promise<JobStatus> {
    return bounded(this.services.records.status(this.id), options, () => this.#waitTimeout(options), this.id);
  }

  /**
   * The events of the job: states, logs, progress, tokens, artifacts. `break` stops following and never cancels.
   * Every event has a `cursor`: `events({ after: cursor })` goes on there, also in another process.
   * @throws `PB_JOB_NOT_FOUND`, `PB_REDIS_UNAVAILABLE` when Redis stays away, `PB_ABORTED`
   */
  async *events({ after, follow = true, signal }: EventsOptions = {}): AsyncGenerator<JobEvent, void, undefined> {
    const own = this.#combined(signal);
    throwIfAborted(own, this.id);
    if (!follow) return yield* await this.services.records.events(this.id, after);
    await this.#check();
    this.#follow('events');
    try {
      yield* this.#feed.read(after, { signal: own });
    } finally {
      this.services.follower.unfollow(this.#feed, 'events');
    }
  }

  /**
   * Waits for the end of the job and fetches its result. Can be called again, also after a timeout.
   * @throws the job's own error (`PB_EDIT_FAILED` with the line in `remote`, `PB_JOB_CANCELLED`, ...), `PB_WAIT_TIMEOUT` and
   *   `PB_ABORTED` (the job runs on), `PB_JOB_NOT_FOUND`, `PB_REDIS_UNAVAILABLE` when Redis stays away
   */
  async result(options: ResultOptions = {}): Promise<JobResult> {
    const signal = this.#combined(options.signal);
    this.#follow('end');
    try {
      throwIfAborted(signal, this.id);
      const work = this.#collect(options.eagerBytes ?? this.services.eagerBytes, signal);
      return await bounded(work, { signal, timeoutMs: options.timeoutMs }, () => this.#waitTimeout(options), this.id);
    } catch (cause) {
      if (options.cancelOnAbort === true && isPatchbayError(cause, 'PB_ABORTED')) {
        await this.cancel({ reason: 'aborted by the client' }).catch(() => undefined); // the abort is what the caller asked about
      }
      throw cause;
    } finally {
      this.services.follower.unfollow(this.#feed, 'end');
    }
  }

  /**
   * Asks for the job's end. Resolves when that is recorded; a running job ends at its next agreement point.
   * Asking again, or for a job that has ended, changes nothing.
   * @throws `PB_JOB_NOT_FOUND`, `PB_REDIS_UNAVAILABLE`
   */
  async cancel(options: CancelOptions = {}): Promise<JobStatus> {
    const work = this.services.records.cancel(this.id, options.reason ?? 'cancelled by the client');
    return bounded(work, options, () => this.#waitTimeout(options), this.id);
  }

  /** Cancels the job when the signal aborts, unless it has ended by then. @internal */
  cancelWith(signal: AbortSignal): void {
    const cancel = (): void => void this.cancel({ reason: 'aborted by the client' }).catch(() => undefined);
    if (signal.aborted) cancel();
    else signal.addEventListener('abort', cancel, { once: true });
  }

  async #collect(eagerBytes: number, signal: AbortSignal | undefined): Promise<JobResult> {
    const last = (await this.#earlierEnd()) ?? (await this.#feed.end());
    if (last.state !== 'completed') throw await this.#failure(last);
    const { result } = await this.#outcome();
    if (result === null)
      throw error('PB_JOB_NOT_FOUND', { jobId: this.id }, { jobId: this.id, hint: 'Its result is not kept any more.' });
    return JobResult.open(result, this.services.artifacts, { eagerBytes, signal });
  }

  async #outcome(): Promise<Outcome> {
    return this.#feed.outcome ?? this.services.records.outcome(this.id);
  }

  async #failure({ state, reason, error: told }: End): Promise<PatchbayError> {
    if (told !== undefined) return PatchbayError.fromJson(told, this.id);
    const { error: text } = await this.#outcome();
    if (text !== null) return PatchbayError.fromJson(JSON.parse(text), this.id);
    if (state === 'cancelled')
      return error('PB_JOB_CANCELLED', { reason: reason ?? 'no reason given' }, { jobId: this.id });
    if (state === 'expired')
      return new PatchbayError('PB_JOB_TIMEOUT', `the job expired: ${reason ?? 'no reason given'}`, { jobId: this.id });
    return error('PB_INTERNAL', { reason: reason ?? `the job ended as ${state}` }, { jobId: this.id });
  }

  /** A job that is not there would be awaited for ever. */
  async #check(): Promise<void> {
    if (!this.#awaited) await this.services.records.status(this.id);
  }

  /** Of a job that had ended before anybody asked, perhaps under a version that told of it in another way. */
  async #earlierEnd(): Promise<End | undefined> {
    if (this.#awaited) return undefined;
    const { state, error: told, transitions } = await this.services.records.status(this.id);
    this.#awaited = !isTerminal(state);
    return this.#awaited ? undefined : { state, reason: transitions.at(-1)?.reason, error: told };
  }

  #follow(wants: Wants): void {
    this.services.follower.follow(this.#feed, wants);
    this.#endLease();
  }

  #endLease(): void {
    if (this.#lease === undefined) return;
    clearTimeout(this.#lease);
    this.#lease = undefined;
    this.services.follower.unfollow(this.#feed, 'end');
  }

  #combined(signal: AbortSignal | undefined): AbortSignal | undefined {
    if (signal === undefined || this.signal === undefined || signal === this.signal) return signal ?? this.signal;
    return AbortSignal.any([signal, this.signal]);
  }

  #waitTimeout({ timeoutMs = 0 }: CallOptions): PatchbayError {
    return error('PB_WAIT_TIMEOUT', { timeoutMs }, { jobId: this.id });
  }
}
