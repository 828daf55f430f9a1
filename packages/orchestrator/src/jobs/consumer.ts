/**
 * Takes jobs from BullMQ: one worker per deployment, as many jobs at once as it has replicas, a short lease.
 * With queues.ts the only file that imports bullmq. Not here: what happens to a job (run-job.ts).
 * @module
 */
import { QUEUE_PREFIX, queueName } from '@patchbay/protocol';
import { DelayedError, WaitingError, Worker, type Job } from 'bullmq';
import type { Redis } from '../redis.js';
import type { Ending, Lease } from './run-job.js';
import { settledWithin } from './settled-within.js';
import { StopSwitch, type StopCause } from './stop.js';

/** A crashed consumer's jobs go on elsewhere after LOCK + STALL_CHECK at the latest. */
const LOCK_MS = 5_000;
const STALL_CHECK_MS = 2_000;

/** Jobs of a deployment that was taken away end when their gangs do. */
const LEAVE_LIMIT_MS = 30_000;
/** The longest a timer can be: jobs end by their own limits. */
const NO_LIMIT_MS = 2 ** 31 - 1;
/** For BullMQ's own steps at the end of jobs. */
const CLOSE_LIMIT_MS = 1_000;

export type RunJob = (lease: Lease, stop: StopSwitch) => Promise<Ending>;

export class Consumer {
  private readonly workers = new Map<string, Worker>();
  private readonly active = new Map<string, StopSwitch>();
  private readonly processing = new Map<string, Set<Promise<void>>>();
  /** Takes no deployment up any more. */
  private leaving = false;

  constructor(
    private readonly redis: Redis,
    private readonly run: RunJob,
    private readonly onError: (cause: unknown) => void,
  ) {}

  /** Starts to take a deployment's jobs, or changes how many at once. */
  take(model: string, concurrency: number): void {
    if (this.leaving) return;
    const known = this.workers.get(model);
    if (known !== undefined) {
      known.concurrency = concurrency;
      return;
    }
    const worker = new Worker<{ jobId: string }>(
      queueName(model),
      (job, token) => this.track(model, this.process(model, job, token)),
      {
        connection: this.redis,
        prefix: QUEUE_PREFIX,
        concurrency,
        lockDuration: LOCK_MS,
        stalledInterval: STALL_CHECK_MS,
        // the record counts how often whoever ran a job vanished, and is the one that says when it is too often
        maxStalledCount: Number.MAX_SAFE_INTEGER,
      },
    );
    worker.on('error', this.onError);
    worker.on('lockRenewalFailed', (jobIds) => jobIds.forEach((jobId) => this.stop(jobId, { why: 'lease lost' })));
    this.workers.set(model, worker);
  }

  /** Takes no more of a deployment's jobs; resolves when those that run have ended, or after the limit. */
  async leave(model: string, limitMs = LEAVE_LIMIT_MS): Promise<void> {
    const worker = this.workers.get(model);
    if (worker === undefined) return;
    this.workers.delete(model);
    const closed = worker.close();
    await settledWithin(Promise.all([...(this.processing.get(model) ?? [])]), limitMs);
    // with Redis away BullMQ cannot write how jobs ended, and would wait for it
    await settledWithin(closed, CLOSE_LIMIT_MS);
  }

  running(): string[] {
    return [...this.active.keys()];
  }

  cancel(jobId: string, reason: string): void {
    this.stop(jobId, { why: 'cancelled', reason });
  }

  /** Takes no more jobs; resolves when those that run have ended by themselves. They can still be cancelled. */
  async drain(): Promise<void> {
    this.leaving = true;
    await Promise.all([...this.workers.keys()].map((model) => this.leave(model, NO_LIMIT_MS)));
  }

  /**
   * Takes no more jobs, lets those that run go on for a while, then gives them back to their queues. With Redis away nothing
   * can be given back: the leases run out, and another consumer takes the jobs up.
   */
  async close(graceMs: number, limitMs: number): Promise<void> {
    this.leaving = true;
    const timer = setTimeout(() => this.active.forEach((stop) => stop.stop({ why: 'shutdown' })), graceMs);
    await Promise.all([...this.workers.keys()].map((model) => this.leave(model, limitMs)));
    clearTimeout(timer);
  }

  private stop(jobId: string, cause: StopCause): void {
    this.active.get(jobId)?.stop(cause);
  }

  private async track(model: string, work: Promise<void>): Promise<void> {
    const all = this.processing.get(model) ?? new Set();
    this.processing.set(model, all);
    const settled = work.catch(() => undefined);
    all.add(settled);
    await settled;
    all.delete(settled);
    return work;
  }

  private async process(model: string, job: Job<{ jobId: string }>, token: string | undefined): Promise<void> {
    const { jobId } = job.data;
    const stop = new StopSwitch();
    this.active.set(jobId, stop);
    try {
      const ending = await this.run({ jobId, model }, stop);
      if (ending === 'over') return;
      if (ending === 'put back') {
        await job.moveToWait(token);
        throw new WaitingError();
      }
      await job.moveToDelayed(Date.now() + ending.pauseMs, token);
      throw new DelayedError();
    } finally {
      if (this.active.get(jobId) === stop) this.active.delete(jobId);
    }
  }
}
