/**
 * Finds jobs that nobody works on and nobody will: a record without a queue entry (whoever submitted it died in between, or
 * the entry was lost with its consumer), a job that waits longer than it may, one whose deployment is gone, one that is
 * parked behind nothing. One orchestrator sweeps at a time; every step is safe beside others.
 * Not here: jobs with an entry whose consumer died (BullMQ's stalled check finds those), ended jobs (retention.ts).
 * @module
 */
import { randomUUID } from 'node:crypto';
import { error, isTerminal, keys, submitterPolicy, type JobState } from '@patchbay/protocol';
import type { Redis } from '../../redis.js';
import type { JobRecords } from '../job-record.js';
import type { Queues } from '../queues.js';

export const SWEEP_MS = 1_000;
/** A record may be without its entry for this long: the steps between the two take no time unless somebody died. */
const ORPHAN_MS = 5_000;
/** Jobs looked at per sweep and index; a longer backlog takes several. */
const PORTION = 500;

export class Sweeper {
  private readonly name = randomUUID();
  private timer: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> = Promise.resolve();
  /** Where in the index of open jobs the next sweep goes on. */
  private cursor = 0;

  constructor(
    private readonly redis: Redis,
    private readonly records: JobRecords,
    private readonly queues: Queues,
    private readonly onError: (cause: unknown) => void,
    private readonly alsoDue: () => Promise<void> = async () => undefined,
  ) {}

  start(): void {
    this.timer = setInterval(() => {
      if (this.redis.status === 'ready') this.sweeping = this.sweeping.then(() => this.turn()).catch(this.onError);
    }, SWEEP_MS);
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    if (this.redis.status === 'ready') await this.sweeping;
  }

  private async turn(): Promise<void> {
    const holder = await this.redis.get(keys.sweeper);
    if (holder !== null && holder !== this.name) return;
    if (holder === null && (await this.redis.set(keys.sweeper, this.name, 'PX', 10 * SWEEP_MS, 'NX')) === null) return;
    await this.redis.pexpire(keys.sweeper, 10 * SWEEP_MS);
    await this.sweep();
    await this.alsoDue();
  }

  async sweep(now = Date.now()): Promise<void> {
    for (const jobId of await this.redis.zrangebyscore(keys.expiries, '-inf', now, 'LIMIT', 0, PORTION))
      await this.expire(jobId);
    const quiet = await this.redis.zrangebyscore(keys.open, '-inf', now - ORPHAN_MS, 'LIMIT', this.cursor, PORTION);
    this.cursor = quiet.length < PORTION ? 0 : this.cursor + quiet.length;
    for (const jobId of quiet) await this.adopt(jobId);
  }

  /** Gives a job that waits in no queue its entry again; nothing happens to one that has it. */
  readonly requeue = async (jobId: string): Promise<void> => {
    const [model, place, state] = await this.redis.hmget(keys.job(jobId), 'model', 'place', 'state');
    if (state === 'queued') await this.queues.add(model!, jobId, Number(place));
  };

  /** A queued one; one that is being placed is stopped by whoever places it. */
  private async expire(jobId: string): Promise<void> {
    const [model, state] = await this.redis.hmget(keys.job(jobId), 'model', 'state');
    if (state !== 'queued') return;
    await this.records.begin(jobId); // ends it, since its time is over
    await this.queues.remove(model!, jobId);
  }

  private async adopt(jobId: string): Promise<void> {
    const [model, state, submitter, attempt] = await this.redis.hmget(
      keys.job(jobId),
      'model',
      'state',
      'submitter',
      'attempt',
    );
    if (model == null || isTerminal(state as JobState)) {
      await this.redis.zrem(keys.open, jobId); // the record was taken away under the index
      return;
    }
    if ((await this.redis.hexists(keys.deployments, model)) === 0) return this.endHomeless(model, jobId);
    if (await this.queues.has(model, jobId)) return;
    if (state !== 'queued')
      await this.records.transition(jobId, 'queued', Number(attempt), { reason: 'nobody works on it any more' });
    if (await this.mayRun(submitter ?? '')) await this.requeue(jobId);
  }

  /** Nobody looks at the queue of a deployment that is gone, so also an entry there helps only who holds it. */
  private async endHomeless(model: string, jobId: string): Promise<void> {
    if (await this.queues.isHeld(model, jobId)) return;
    await this.records.failQueued(jobId, error('PB_MODEL_NOT_FOUND', { model }, { jobId }).toJSON());
    await this.queues.remove(model, jobId);
  }

  /** False while the jobs of a submitter are parked for good reason. */
  private async mayRun(submitter: string): Promise<boolean> {
    const [own, others] = await this.redis.hmget(keys.submitters, submitter, '*');
    const policy = submitterPolicy.safeParse(JSON.parse(own ?? others ?? '{}'));
    if (policy.data?.maxRunning === undefined) return true;
    return Number((await this.redis.hget(keys.running, submitter)) ?? 0) < policy.data.maxRunning;
  }
}
