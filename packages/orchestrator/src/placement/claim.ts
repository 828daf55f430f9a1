/**
 * A job gets a replica: one at a time per replica, in the order of asking, waiting while none is ready.
 * Not here: how replicas come to be (controller.ts).
 * @module
 */
import { PatchbayError, error } from '@patchbay/protocol';
import type { GangConnection } from '../cluster-client/gang.js';

/** How long a replica that just lost a job is avoided, unless the cluster tells of a new epoch before. */
const SUSPECT_MS = 3_000;

/** A replica that is lent to one job. */
export interface Claim {
  readonly gang: GangConnection;
  /** Gives it back; `suspect` when the job was lost on it. */
  release(suspect: boolean): void;
}

interface Slot {
  readonly gang: GangConnection;
  busy: boolean;
  suspectUntil: number;
}

interface Waiter {
  readonly resolve: (claim: Claim) => void;
  readonly reject: (cause: unknown) => void;
}

/** The ready replicas of one deployment and the jobs that wait for them. */
export class ReplicaPool {
  private slots: Slot[] = [];
  private readonly waiters: Waiter[] = [];
  private held = false;
  private hopeless: PatchbayError | undefined;
  private recheck: NodeJS.Timeout | undefined;

  constructor(private readonly model: string) {}

  /** The replicas that are ready now; those known keep their state. */
  update(gangs: readonly GangConnection[]): void {
    this.hopeless = undefined;
    this.held = false;
    this.slots = gangs.map(
      (gang) => this.slots.find((slot) => slot.gang === gang) ?? { gang, busy: false, suspectUntil: 0 },
    );
    this.serve();
  }

  /** Lends nothing until the next `update`; what is lent stays lent. */
  hold(): void {
    this.hopeless = undefined;
    this.held = true;
  }

  /** Nothing will become ready: refuses all who wait and ask, until the next `update`. */
  refuse(cause: PatchbayError): void {
    this.slots = [];
    this.hopeless = cause;
    for (const waiter of this.waiters.splice(0)) waiter.reject(cause);
  }

  /** Any replica, also a busy one, for questions that need no device. @throws `PB_MODEL_NOT_READY` */
  any(status: string): GangConnection {
    const slot = this.slots.find(({ gang }) => gang.usable);
    if (slot === undefined) throw this.hopeless ?? error('PB_MODEL_NOT_READY', { model: this.model, status });
    return slot.gang;
  }

  /** @throws `PB_MODEL_NOT_READY` after `limitMs`, what `refuse` was given, or the signal's reason */
  claim(signal: AbortSignal, limitMs: number): Promise<Claim> {
    if (this.hopeless !== undefined) return Promise.reject(this.hopeless);
    if (signal.aborted) return Promise.reject(signal.reason as Error);
    const slot = this.waiters.length === 0 ? this.free(Date.now()) : undefined;
    if (slot !== undefined) return Promise.resolve(this.lend(slot));
    return new Promise((resolve, reject) => this.wait(signal, limitMs, resolve, reject));
  }

  private wait(
    signal: AbortSignal,
    limitMs: number,
    resolve: (claim: Claim) => void,
    reject: (cause: unknown) => void,
  ): void {
    const finish = <T>(tell: (value: T) => void) => {
      return (value: T): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', aborted);
        const index = this.waiters.indexOf(waiter);
        if (index >= 0) this.waiters.splice(index, 1);
        tell(value);
      };
    };
    const waiter: Waiter = { resolve: finish(resolve), reject: finish(reject) };
    const aborted = (): void => waiter.reject(signal.reason);
    const timer = setTimeout(() => waiter.reject(this.waitedInVain(limitMs)), limitMs);
    signal.addEventListener('abort', aborted);
    this.waiters.push(waiter);
    this.serve();
  }

  /** The wait was all the patience there is: another one would not help. */
  private waitedInVain(limitMs: number): PatchbayError {
    const told = error('PB_MODEL_NOT_READY', { model: this.model, status: `not ready after ${limitMs} ms` });
    return new PatchbayError(told.code, told.message, told.context, false);
  }

  private free(now: number): Slot | undefined {
    if (this.held) return undefined;
    return this.slots.find((slot) => !slot.busy && slot.gang.usable && slot.suspectUntil <= now);
  }

  private lend(slot: Slot): Claim {
    slot.busy = true;
    let released = false;
    const release = (suspect: boolean): void => {
      if (released) return;
      released = true;
      slot.busy = false;
      if (suspect) slot.suspectUntil = Date.now() + SUSPECT_MS;
      this.serve();
    };
    return { gang: slot.gang, release };
  }

  private serve(): void {
    const now = Date.now(); // one moment for both, or a slot that becomes free between them is forgotten
    while (this.waiters.length > 0) {
      const slot = this.free(now);
      if (slot === undefined) break;
      this.waiters.shift()!.resolve(this.lend(slot));
    }
    clearTimeout(this.recheck);
    if (this.waiters.length === 0) return;
    const later = this.slots.filter(({ busy, suspectUntil }) => !busy && suspectUntil > now);
    const soonest = Math.min(...later.map(({ suspectUntil }) => suspectUntil));
    if (Number.isFinite(soonest)) this.recheck = setTimeout(() => this.serve(), soonest - now);
  }
}
