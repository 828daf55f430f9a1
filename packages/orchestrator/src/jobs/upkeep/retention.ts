/**
 * What is kept of jobs that ended, and for how long: a time to live and a budget of bytes for records, and artifacts as long
 * as a record refers to them. Not here: deleting one job (job-record.ts), the files (artifacts/).
 * @module
 */
import { keys } from '@patchbay/protocol';
import { Promises } from '../../artifacts/promises.js';
import type { ArtifactStore } from '../../artifacts/store.js';
import type { Redis } from '../../redis.js';
import type { JobRecords } from '../job-record.js';

export interface RetentionLimits {
  readonly jobTtlMs: number;
  /** Documents and results of ended jobs in Redis. */
  readonly jobBudgetBytes: number;
  /** An artifact that no job refers to is kept this long, for the job that will. */
  readonly artifactTtlMs: number;
}

const PORTION = 500;
const COLLECT_EVERY_MS = 60_000;

export class Retention {
  private nextCollection = Date.now() + COLLECT_EVERY_MS;
  private readonly promises: Promises;

  constructor(
    private readonly redis: Redis,
    private readonly records: JobRecords,
    private readonly artifacts: ArtifactStore,
    private readonly limits: RetentionLimits,
  ) {
    this.promises = new Promises(redis);
  }

  /** All that is due. */
  async run(now = Date.now()): Promise<void> {
    await this.forgetOld(now);
    await this.keepBudget();
    if (now < this.nextCollection) return;
    this.nextCollection = now + COLLECT_EVERY_MS;
    await this.collectArtifacts(now);
  }

  /** Redis drops the records by itself; what counts and lists them follows here. */
  async forgetOld(now: number): Promise<void> {
    const before = now - this.limits.jobTtlMs;
    for (const jobId of await this.redis.zrangebyscore(keys.finished, '-inf', before, 'LIMIT', 0, PORTION))
      await this.records.delete(jobId);
  }

  /** The jobs that ended first go first. */
  async keepBudget(): Promise<void> {
    for (let gone = 0; gone < PORTION; gone++) {
      const stored = Number((await this.redis.hget(keys.settings, 'storedBytes')) ?? 0);
      if (stored <= this.limits.jobBudgetBytes) return;
      const [oldest] = await this.redis.zrange(keys.finished, '0', '0');
      if (oldest === undefined) return;
      await this.records.delete(oldest);
    }
  }

  /** Removes artifacts that are older than the time to live, and that no job refers to or will. Resolves to how many. */
  async collectArtifacts(now = Date.now()): Promise<number> {
    const before = now - this.limits.artifactTtlMs;
    await this.promises.forget(before);
    const old = await this.artifacts.olderThan(before);
    if (old.length === 0) return 0;
    const wanted = await this.referred();
    let gone = 0;
    for (const sha256 of old) {
      if (wanted.has(sha256) || (await this.promises.holds(sha256, before))) continue;
      if (await this.artifacts.delete(sha256)) gone += 1;
    }
    return gone;
  }

  private async referred(): Promise<Set<string>> {
    const wanted = new Set<string>();
    for (let from = 0; ; from += PORTION) {
      const ids = await this.redis.zrange(keys.jobs, String(from), String(from + PORTION - 1));
      const lists = await Promise.all(ids.map((id) => this.redis.hget(keys.job(id), 'artifacts')));
      for (const list of lists) for (const digest of (list ?? '').split(' ')) if (digest !== '') wanted.add(digest);
      if (ids.length < PORTION) return wanted;
    }
  }
}
