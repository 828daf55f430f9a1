/**
 * The append-only event log of a job: written for the gang, read by HTTP followers.
 * Not here: state entries, which the Lua scripts write together with the state.
 * @module
 */
import { appendCall, isTerminal, jobEvent, keys, type JobEvent, type JobEventBody } from '@patchbay/protocol';
import type { Checkpoint } from '../cluster-client/convert.js';
import type { Redis } from '../redis.js';
import type { Scripts } from '../scripts.js';

/** Above this many unconfirmed entries the writer is told to wait. */
const MAX_PENDING = 256;
const READ_PORTION = 256;
const IDLE_MS = 15_000;

export class EventLog {
  private pending = 0;

  constructor(
    private readonly redis: Redis,
    private readonly scripts: Scripts,
    private readonly onError: (cause: unknown) => void,
  ) {}

  /**
   * Adds what a gang reports, without waiting for Redis; order on the connection is the order of the log, and `seq` makes an
   * entry that is written again after a loss of the connection the same one.
   * Returns a promise only when too much is unconfirmed: read on from the gang when it resolves.
   */
  append(jobId: string, attempt: number, event: Buffer, seq: number): Promise<unknown> | undefined {
    const body = this.read(event, attempt);
    if (body === undefined) return undefined;
    this.pending += 1;
    const written = this.scripts
      .run(appendCall(jobId, body, seq))
      .catch(this.onError)
      .finally(() => (this.pending -= 1));
    return this.pending > MAX_PENDING ? written : undefined;
  }

  /** The last checkpoint of each training run that an attempt before this one has told of. */
  async checkpoints(jobId: string, attempt: number): Promise<Record<string, Checkpoint>> {
    const found: Record<string, Checkpoint> = {};
    if (attempt === 1) return found;
    let cursor = '0';
    for (;;) {
      const events = await readAfter(this.redis, jobId, cursor);
      const last = events.at(-1);
      if (last === undefined) return found;
      cursor = last.cursor;
      for (const event of events) {
        if (event.type !== 'artifact' || event.attempt >= attempt) continue;
        const { run, step, sha256 } = event;
        if (run !== undefined && step !== undefined && step >= (found[run]?.step ?? 0)) found[run] = { sha256, step };
      }
    }
  }

  private read(event: Buffer, attempt: number): JobEventBody | undefined {
    try {
      return jobEvent.parse({ ...(JSON.parse(event.toString()) as object), at: Date.now(), attempt });
    } catch (cause) {
      this.onError(cause);
      return undefined;
    }
  }
}

/** What is in the log after a cursor. */
async function readAfter(redis: Redis, jobId: string, cursor: string): Promise<JobEvent[]> {
  const rows = await redis.xrange(keys.events(jobId), `(${cursor}`, '+', 'COUNT', READ_PORTION);
  return rows.map(([id, fields]) => ({ ...(JSON.parse(fields[1] ?? '{}') as JobEvent), cursor: id }));
}

/** True when nothing will follow after what is in the log. */
async function isOver(redis: Redis, jobId: string): Promise<boolean> {
  const [last] = await redis.xrevrange(keys.events(jobId), '+', '-', 'COUNT', 1);
  if (last === undefined) return true;
  const event = JSON.parse(last[1][1] ?? '{}') as JobEvent;
  return event.type === 'state' && isTerminal(event.state);
}

/**
 * Follows a log from a cursor on (`0` = from its start) and ends with the job. Yields undefined now and then when nothing
 * happens, so that a connection can be kept alive.
 * `open` gives a connection for this follower alone, since the wait blocks it.
 */
export async function* followEvents(
  open: () => Redis,
  jobId: string,
  cursor: string,
  signal: AbortSignal,
): AsyncGenerator<JobEvent | undefined> {
  const redis = open();
  const stop = (): void => redis.disconnect();
  signal.addEventListener('abort', stop);
  try {
    let after = cursor;
    while (!signal.aborted) {
      const events = await readAfter(redis, jobId, after);
      yield* events;
      after = events.at(-1)?.cursor ?? after;
      if (events.length > 0) continue;
      if (await isOver(redis, jobId)) return;
      const news = await redis.xread('COUNT', 1, 'BLOCK', IDLE_MS, 'STREAMS', keys.events(jobId), after);
      if (news === null) yield undefined;
    }
  } catch (cause) {
    if (!signal.aborted) throw cause;
  } finally {
    signal.removeEventListener('abort', stop);
    redis.disconnect();
  }
}
