/** Why a job that runs here is stopped: the reason of its abort signal. Not here: what then becomes of it (run-job.ts). @module */

export type StopCause =
  | { readonly why: 'cancelled'; readonly reason: string }
  /** Longer than limits.timeoutMs from `running` on. */
  | { readonly why: 'deadline'; readonly timeoutMs: number }
  /** Not running by limits.startTimeoutMs. */
  | { readonly why: 'expired' }
  /** BullMQ gave the job to another consumer, or may have. */
  | { readonly why: 'lease lost' }
  | { readonly why: 'shutdown' };

/** What an aborted job throws inside of its attempt. */
export class Stopped extends Error {
  constructor(override readonly cause: StopCause) {
    super(cause.why === 'cancelled' ? cause.reason : cause.why);
  }
}

/** The switch of one job: the first cause wins. */
export class StopSwitch {
  private readonly controller = new AbortController();
  readonly signal: AbortSignal = this.controller.signal;

  stop(cause: StopCause): void {
    this.controller.abort(new Stopped(cause));
  }

  /** Rejects when the job is stopped. */
  readonly stopped: Promise<never> = new Promise((_resolve, reject) => {
    this.signal.addEventListener('abort', () => reject(this.signal.reason as Stopped));
  });

  constructor() {
    // nobody may be waiting when the job is over before it is stopped
    this.stopped.catch(() => undefined);
  }
}
