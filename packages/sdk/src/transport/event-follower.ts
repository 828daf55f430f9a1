/**
 * Reads the event logs of many jobs, or only their ends, through one blocking connection and hands the entries to their feeds.
 * Survives the loss of Redis: it opens the connection again and goes on after the last entry that it saw. Not here: who reads a feed.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { error, keys } from '@patchbay/protocol';
import type { Redis } from 'ioredis';
import { compareCursors, type EventFeed } from './event-feed.js';
import { readOutcome } from './outcome.js';
import type { RedisConnection } from './redis-connection.js';

const BLOCK_MS = 5_000;
const ENTRIES_PER_READ = 500;
const FIRST_BACKOFF_MS = 20;
const MOST_BACKOFF_MS = 1_000;
/** Redis looks at every job that a read names. Beyond this many the next read waits, for a time in which several may end. */
const MANY = 256;

/** Only how the job ends takes one read of Redis, all that happens one for each event. */
export type Wants = 'events' | 'end';

export interface EventFollowerOptions {
  /** The connection that blocks. */
  readonly blocking: RedisConnection;
  /** Wakes the blocked one when a job is added while it waits. */
  readonly commands: RedisConnection;
  /** Redis may be away for this long before the readers get `PB_REDIS_UNAVAILABLE`. */
  readonly patienceMs: number;
}

export class EventFollower {
  readonly #feeds = new Set<EventFeed>();
  #looping = false;
  #pending: Promise<unknown> | undefined;
  #clientId: Promise<number> | undefined;
  #identified: Redis | undefined;
  /** The connection after whose opening the jobs were found to be still there. */
  #checked: Redis | undefined;
  /** Since the last read that worked. */
  #trouble: { readonly until: number; backoffMs: number } | undefined;

  constructor(private readonly options: EventFollowerOptions) {}

  /** How many feeds are being read. */
  get size(): number {
    return this.#feeds.size;
  }

  /** Opens the blocking connection, so that `follow` can read in the same tick. */
  async open(): Promise<void> {
    this.#identify(await this.options.blocking.open());
  }

  /** Starts to read for a feed; with an open connection the read is on its way when this returns. */
  follow(feed: EventFeed, wants: Wants): void {
    feed.readers++;
    const more = wants === 'events' && feed.eventReaders++ === 0;
    if (feed.over || (this.#feeds.has(feed) && !more)) return;
    feed.recover();
    this.#feeds.add(feed);
    if (this.#looping) void this.#wake();
    else void this.#loop();
  }

  /** What was asked for with `follow`, no more. */
  unfollow(feed: EventFeed, wants: Wants): void {
    if (wants === 'events') feed.eventReaders--;
    if (--feed.readers === 0) this.#feeds.delete(feed);
  }

  /** With an open connection the first read is written before this returns to its caller. */
  async #loop(): Promise<void> {
    this.#looping = true;
    while (this.#feeds.size > 0) {
      let client = this.options.blocking.ready;
      try {
        client ??= await this.#reopen();
        if (this.#checked !== client) await this.#dropLostJobs(client);
        await this.#read(client);
        this.#trouble = undefined;
        if (this.#feeds.size > MANY) await sleep(this.#feeds.size / MANY);
      } catch (cause) {
        await this.#retryLater(client, cause);
      }
    }
    this.#looping = false;
  }

  async #read(client: Redis): Promise<void> {
    const cursors = new Map<string, string>();
    for (const { jobId, cursor, eventReaders } of this.#feeds) {
      const [stream, from] = eventReaders > 0 ? [keys.events(jobId), cursor] : [keys.end(jobId), '0-0'];
      const other = cursors.get(stream);
      if (other === undefined || compareCursors(from, other) < 0) cursors.set(stream, from);
    }
    const streams = [...cursors.keys(), ...cursors.values()];
    if (streams.length === 0) return;
    const read = client.xread('COUNT', ENTRIES_PER_READ, 'BLOCK', BLOCK_MS, 'STREAMS', ...streams);
    this.#pending = read;
    // Redis answers it when the wait is over: with the event that ends the job comes its outcome, and nobody has to ask
    const [only, ...others] = this.#feeds;
    const outcome = only !== undefined && others.length === 0 ? readOutcome(client, only.jobId) : undefined;
    outcome?.catch(() => undefined); // the read meets the same failure
    const reply = await read.finally(() => (this.#pending = undefined));
    const entries = new Map(reply ?? []);
    const last = await outcome;
    for (const feed of [...this.#feeds]) {
      for (const entry of entries.get(keys.events(feed.jobId)) ?? []) feed.push(entry, last);
      for (const entry of entries.get(keys.end(feed.jobId)) ?? []) feed.finish(entry, last);
      if (feed.over) this.#feeds.delete(feed);
    }
  }

  async #reopen(): Promise<Redis> {
    const client = await this.options.blocking.open();
    this.#identify(client);
    return client;
  }

  /** Waits a little before the next try, or tells the readers that there is none. */
  async #retryLater(client: Redis | undefined, cause: unknown): Promise<void> {
    const { blocking, patienceMs } = this.options;
    const failure = client === undefined ? blocking.unavailable(cause) : blocking.failed(client, cause);
    this.#trouble ??= { until: performance.now() + patienceMs, backoffMs: FIRST_BACKOFF_MS };
    if (this.#identified === undefined || blocking.closed || performance.now() > this.#trouble.until) {
      for (const feed of this.#feeds) feed.fail(failure);
      this.#feeds.clear();
      this.#trouble = undefined;
      return;
    }
    await sleep(this.#trouble.backoffMs);
    this.#trouble.backoffMs = Math.min(2 * this.#trouble.backoffMs, MOST_BACKOFF_MS);
  }

  /** A Redis that came back without its data would let the readers wait for ever. */
  async #dropLostJobs(client: Redis): Promise<void> {
    for (const feed of [...this.#feeds]) {
      if ((await client.exists(keys.job(feed.jobId))) === 1) continue;
      this.#feeds.delete(feed);
      feed.fail(error('PB_JOB_NOT_FOUND', { jobId: feed.jobId }, { jobId: feed.jobId }));
    }
    this.#checked = client;
  }

  #identify(client: Redis): void {
    if (this.#identified === client) return;
    this.#identified = client;
    this.#checked ??= client;
    this.#clientId = client.client('ID');
    this.#clientId.catch(() => undefined); // the read that follows meets the same failure
  }

  /** Ends the read that is blocked, so that the next one includes a new feed. */
  async #wake(): Promise<void> {
    const blocked = this.#pending;
    if (blocked === undefined) return;
    try {
      const id = await this.#clientId;
      while (this.#pending === blocked && id !== undefined) {
        const client = this.options.commands.ready;
        if (client === undefined || (await client.client('UNBLOCK', id)) === 1) return; // 0: it is not blocked yet, or not any more
      }
    } catch {
      this.options.blocking.ready?.disconnect(); // not allowed to unblock: a new connection does it too
    }
  }
}
