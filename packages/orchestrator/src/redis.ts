/** Connections to Redis: all wait for it to come back and never raise an unheard error. Not here: what is said over them. @module */
import { error } from '@patchbay/protocol';
import { Redis } from 'ioredis';
import { OutageLog, type Logger } from './log.js';

export type { Redis };

/** `unix:///run/redis.sock` and `/run/redis.sock` are sockets, everything else is a URL. */
export function connectionTarget(url: string): string | { readonly path: string } {
  const path = url.startsWith('unix://') ? decodeURIComponent(url.slice('unix://'.length)) : url;
  return path.startsWith('/') ? { path } : url;
}

function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//');
}

/**
 * What is said in one turn of the event loop goes out in one write: a system call per command is a tenth of what a job costs.
 * The order of the commands stays as it is.
 */
function gatherWrites(redis: Redis): void {
  const send = redis.sendCommand.bind(redis);
  let corked: Redis['stream'] | undefined;
  const uncork = (): void => {
    corked?.uncork();
    corked = undefined;
  };
  redis.sendCommand = (command, stream) => {
    if (corked === undefined && redis.status === 'ready') {
      corked = redis.stream;
      corked.cork();
      setImmediate(uncork);
    }
    return send(command, stream);
  };
}

/** One connection per role, so that a blocking command never holds up another. */
export class RedisConnections {
  private readonly all = new Set<Redis>();
  private readonly outage: OutageLog;

  constructor(
    private readonly url: string,
    log: Logger,
  ) {
    this.outage = new OutageLog(log, 'redis');
  }

  /** A connection of its own; `close` ends it with the others unless it was ended before. */
  open(role: string): Redis {
    const options = {
      connectionName: `patchbay-${role}`,
      maxRetriesPerRequest: null,
      retryStrategy: (times: number) => Math.min(50 * 2 ** Math.min(times, 5), 1000),
    };
    const target = connectionTarget(this.url);
    const redis = typeof target === 'string' ? new Redis(target, options) : new Redis({ ...options, ...target });
    return this.follow(redis);
  }

  /** Copies, too: BullMQ makes one per worker for its blocking calls, and loses it in an outage. */
  private follow(redis: Redis): Redis {
    gatherWrites(redis);
    redis.on('error', (cause) => this.outage.failed(cause));
    redis.on('ready', () => this.outage.recovered());
    redis.on('end', () => this.all.delete(redis));
    this.all.add(redis);
    const duplicate = redis.duplicate.bind(redis);
    redis.duplicate = (override) => this.follow(duplicate(override));
    const disconnect = redis.disconnect.bind(redis);
    redis.disconnect = (reconnect) => {
      // ioredis never ends a connection that is between two tries, and BullMQ waits for that end; from `wait` it does
      if (redis.status === 'reconnecting' && reconnect !== true) redis.status = 'wait';
      disconnect(reconnect);
    };
    return redis;
  }

  /** For requests that somebody waits for: says at once that Redis is away. @throws `PB_REDIS_UNAVAILABLE` */
  readonly require = (redis: Redis): void => {
    if (redis.status === 'ready') return;
    throw error('PB_REDIS_UNAVAILABLE', { url: withoutPassword(this.url), reason: 'the connection is down' });
  };

  /** Ends everything at once; what still waits for an answer is rejected. */
  close(): void {
    for (const redis of this.all) redis.disconnect();
  }
}
