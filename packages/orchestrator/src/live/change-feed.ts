/**
 * Steps of all jobs, as they happen, to any number of pages over one connection to Redis. A page that comes back tells the last
 * step it saw; what is too old to be told again is answered with `reset`: read everything anew.
 * Not here: the log of one job (jobs/event-log.ts).
 * @module
 */
import { keys } from '@patchbay/protocol';
import type { Change } from '@patchbay/protocol/http';
import type { Redis } from '../redis.js';

export type Listener = (changes: readonly Change[]) => void;

const BLOCK_MS = 5_000;
const PORTION = 500;
const PAUSE_MS = 500;

type Rows = [id: string, fields: string[]][];

function read(rows: Rows): Change[] {
  return rows.map(([cursor, flat]) => {
    const fields = new Map(flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? ''] as const] : [])));
    return {
      cursor,
      id: fields.get('id') ?? '',
      model: fields.get('model') ?? '',
      state: fields.get('state') as Change['state'],
      attempt: Number(fields.get('attempt')),
      at: Number(fields.get('at')),
    };
  });
}

const before = (one: string, other: string): boolean => {
  const [a = 0, b = 0] = one.split('-').map(Number);
  const [c = 0, d = 0] = other.split('-').map(Number);
  return a < c || (a === c && b < d);
};

export class ChangeFeed {
  private readonly listeners = new Set<Listener>();
  private follower: Redis | undefined;

  constructor(
    private readonly redis: Redis,
    private readonly open: () => Redis,
  ) {}

  /** The cursor of now. */
  async now(): Promise<string> {
    const [last] = await this.redis.xrevrange(keys.changes, '+', '-', 'COUNT', 1);
    return last?.[0] ?? '0-0';
  }

  /** What happened after a cursor; undefined when that is not known any more. */
  async since(cursor: string): Promise<Change[] | undefined> {
    const [oldest] = await this.redis.xrange(keys.changes, '-', '+', 'COUNT', 1);
    if (oldest === undefined || before(cursor, oldest[0])) return undefined;
    const rows = await this.redis.xrange(keys.changes, `(${cursor}`, '+', 'COUNT', PORTION + 1);
    return rows.length > PORTION ? undefined : read(rows);
  }

  /** Tells every later change until the returned function is called. */
  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    if (this.follower === undefined) void this.follow();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.close();
    };
  }

  close(): void {
    this.follower?.disconnect();
    this.follower = undefined;
  }

  private async follow(): Promise<void> {
    const follower = this.open();
    this.follower = follower;
    let after: string | undefined;
    while (this.follower === follower) {
      try {
        after ??= await this.now();
        const news = await follower.xread('COUNT', PORTION, 'BLOCK', BLOCK_MS, 'STREAMS', keys.changes, after);
        const rows = news?.[0]?.[1] ?? [];
        after = rows.at(-1)?.[0] ?? after;
        if (rows.length > 0) for (const listener of this.listeners) listener(read(rows));
      } catch {
        // the connection comes back by itself; until then nothing can be told
        if (this.follower === follower) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }
}
