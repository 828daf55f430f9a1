/**
 * One Redis connection that is opened when it is first needed and again after it was lost. It never retries by itself:
 * a call that cannot reach Redis fails at once with a typed error; whoever can wait (the event follower) opens again.
 * @module
 */
import { error, isPatchbayError, type PatchbayError } from '@patchbay/protocol';
import { Redis } from 'ioredis';

export interface RedisConnectionOptions {
  /** Throws `PB_STACK_NOT_RUNNING` when there is nothing to connect to. */
  readonly locate: () => string;
  /** A better error for a failed connection, if there is one. */
  readonly explain: () => PatchbayError | undefined;
  readonly connectTimeoutMs: number;
  /** A server that answers nothing for this long while it should counts as lost. */
  readonly silenceMs: number;
}

/** `unix:///path` is written by some tools, ioredis wants the bare path. */
const forIoredis = (url: string): string => url.replace(/^(redis\+)?unix:\/\//, '');

const closedError = (cause?: unknown): PatchbayError =>
  error('PB_ABORTED', {}, { hint: 'The client was closed.', cause });

/** Without the password. */
export const displayUrl = (url: string): string => url.replace(/\/\/[^@/]*@/, '//***@');

export class RedisConnection {
  #client: Redis | undefined;
  #opening: Promise<Redis> | undefined;
  #closed = false;

  constructor(
    private readonly name: string,
    private readonly options: RedisConnectionOptions,
  ) {}

  /** The client, when it can take a command in this very tick. */
  get ready(): Redis | undefined {
    return !this.#closed && this.#client?.status === 'ready' ? this.#client : undefined;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** @throws `PB_REDIS_UNAVAILABLE`, `PB_STACK_NOT_RUNNING`, `PB_ABORTED` after `close()` */
  async open(): Promise<Redis> {
    if (this.#closed) throw closedError();
    if (this.ready !== undefined) return this.ready;
    this.#opening ??= this.#connect().finally(() => (this.#opening = undefined));
    return this.#opening;
  }

  /** Runs a command on the open connection; every failure of the connection is `PB_REDIS_UNAVAILABLE`. */
  async run<T>(command: (client: Redis) => Promise<T>): Promise<T> {
    const client = await this.open();
    try {
      return await command(client);
    } catch (cause) {
      throw this.failed(client, cause);
    }
  }

  /** The failure of a command, typed. A connection that broke is given up, even if it does not know yet. */
  failed(client: Redis, cause: unknown): PatchbayError {
    const answered = isPatchbayError(cause) || (cause instanceof Error && cause.name === 'ReplyError');
    if (!answered && this.#client === client) {
      this.#client = undefined;
      client.disconnect();
    }
    return this.unavailable(cause);
  }

  /** Any failure of Redis, typed. */
  unavailable(cause: unknown): PatchbayError {
    if (isPatchbayError(cause)) return cause;
    if (this.#closed) return closedError(cause);
    const reason = cause instanceof Error ? cause.message : String(cause);
    return error('PB_REDIS_UNAVAILABLE', { url: displayUrl(this.options.locate()), reason }, { cause });
  }

  /** Drops the connection, also in the middle of a blocking read. */
  close(): void {
    this.#closed = true;
    this.#client?.disconnect();
  }

  async #connect(): Promise<Redis> {
    const url = this.options.locate();
    const { connectTimeoutMs, silenceMs } = this.options;
    const settings = {
      connectionName: this.name,
      lazyConnect: true,
      connectTimeout: connectTimeoutMs,
      socketTimeout: silenceMs,
      retryStrategy: () => null,
      maxRetriesPerRequest: null,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
    };
    const client = new Redis(forIoredis(url), settings);
    let reason: unknown;
    client.on('error', (cause) => (reason = cause)); // ioredis prints errors that nobody listens to
    this.#client = client;
    const giveUp = (): void => {
      reason = new Error(`no answer within ${connectTimeoutMs} ms`); // it hangs, or is busy with loading its data
      client.disconnect();
    };
    const timer = setTimeout(giveUp, connectTimeoutMs);
    try {
      await client.connect();
    } catch (cause) {
      client.disconnect();
      throw this.options.explain() ?? this.unavailable(reason ?? cause);
    } finally {
      clearTimeout(timer);
    }
    if (this.#closed) client.disconnect();
    return client;
  }
}
