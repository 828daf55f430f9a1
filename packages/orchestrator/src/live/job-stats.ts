/**
 * How many jobs ended per minute and how long they took, per deployment, kept in Redis for a day. Counted here in memory and
 * written once a second, so that a job costs nothing; times go into buckets an eighth of an octave wide (4 % off at most).
 * Not here: what Prometheus asks (metrics.ts).
 * @module
 */
import { keys } from '@patchbay/protocol';
import type { StatsPoint } from '@patchbay/protocol/http';
import type { Redis } from '../redis.js';

export interface StatsWindow {
  readonly points: StatsPoint[];
  /** Mean time that a job held its replica, milliseconds; null when too few ran. */
  readonly meanRunMs: number | null;
}

const MINUTE = 60_000;
const FLUSH_MS = 1_000;
const KEPT_SECONDS = 25 * 3600;
const PER_OCTAVE = 8;
const ENOUGH = 3;

const bucketOf = (ms: number): number => Math.round(Math.log2(Math.max(1, ms)) * PER_OCTAVE);
const middleOf = (bucket: number): number => Math.round(2 ** (bucket / PER_OCTAVE) * 10) / 10;

/** The value below which a share of the counted ones lies. */
function quantile(buckets: ReadonlyMap<number, number>, share: number): number | null {
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [bucket, count] of sorted) {
    seen += count;
    if (seen >= total * share) return middleOf(bucket);
  }
  return null;
}

export class JobStats {
  private counts = new Map<string, Map<string, number>>();
  private readonly timer: NodeJS.Timeout;

  constructor(
    private readonly redis: Redis,
    private readonly onError: (cause: unknown) => void,
  ) {
    this.timer = setInterval(() => void this.flush(), FLUSH_MS).unref();
  }

  ended(model: string, state: string): void {
    this.count(model, state, 1);
  }

  timed(model: string, timings: Readonly<Record<string, number>>): void {
    const { totalMs = 0, queueMs = 0, placeMs = 0 } = timings;
    this.count(model, `t${bucketOf(totalMs)}`, 1);
    this.count(model, 'run', Math.max(0, totalMs - queueMs - placeMs));
  }

  /** The last minutes, oldest first, with empty ones. */
  async window(model: string, minutes: number, now = Date.now()): Promise<StatsWindow> {
    await this.flush();
    const last = Math.floor(now / MINUTE);
    const first = last - minutes + 1;
    const hours = Array.from(
      { length: Math.floor(last / 60) - Math.floor(first / 60) + 1 },
      (_, index) => Math.floor(first / 60) + index,
    );
    const hashes = await Promise.all(hours.map((hour) => this.redis.hgetall(keys.jobStats(model, hour))));
    const known = new Map(hours.map((hour, index) => [hour, hashes[index] ?? {}]));
    let [ran, runMs] = [0, 0];
    const points = Array.from({ length: minutes }, (_, index): StatsPoint => {
      const minute = first + index;
      const hash = known.get(Math.floor(minute / 60)) ?? {};
      const prefix = `${minute % 60}:`;
      const read = (name: string): number => Number(hash[prefix + name] ?? 0);
      const times = new Map(
        Object.entries(hash)
          .filter(([field]) => field.startsWith(`${prefix}t`))
          .map(([field, count]) => [Number(field.slice(prefix.length + 1)), Number(count)] as const),
      );
      ran += read('completed');
      runMs += read('run');
      const [completed, failed, cancelled] = [read('completed'), read('failed'), read('cancelled')];
      return {
        at: minute * MINUTE,
        completed,
        failed,
        cancelled,
        p50: quantile(times, 0.5),
        p95: quantile(times, 0.95),
      };
    });
    return { points, meanRunMs: ran < ENOUGH ? null : runMs / ran };
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.flush();
  }

  private count(model: string, what: string, by: number): void {
    const minute = Math.floor(Date.now() / MINUTE);
    const key = keys.jobStats(model, Math.floor(minute / 60));
    const fields = this.counts.get(key) ?? new Map<string, number>();
    this.counts.set(key, fields);
    const field = `${minute % 60}:${what}`;
    fields.set(field, (fields.get(field) ?? 0) + by);
  }

  private async flush(): Promise<void> {
    if (this.counts.size === 0 || this.redis.status !== 'ready') return;
    const counts = this.counts;
    this.counts = new Map();
    const pipeline = this.redis.pipeline();
    for (const [key, fields] of counts) {
      for (const [field, by] of fields) pipeline.hincrbyfloat(key, field, by);
      pipeline.expire(key, KEPT_SECONDS);
    }
    await pipeline.exec().catch(this.onError);
  }
}
