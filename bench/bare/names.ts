/** What both ends of the bare path know of each other. */
export const QUEUE = 'bare';
/** The result and the event that tells of it, at once. */
export const PUBLISH = `redis.call('HSET', KEYS[1], 'result', ARGV[1]); redis.call('XADD', KEYS[2], '*', 'result', ARGV[1])`;

export interface BareJob {
  readonly id: string;
  readonly body: string;
}
