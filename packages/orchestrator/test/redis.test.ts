/** Connections to a Redis that is not there. */
import assert from 'node:assert/strict';
import { createLogger } from '../src/log.js';
import { RedisConnections, type Redis } from '../src/redis.js';

/** Not `once` of node:events: that rejects at the first failed try. */
function comes(event: string, ...connections: Redis[]): Promise<unknown> {
  return Promise.all(connections.map((redis) => new Promise<void>((resolve) => redis.once(event, resolve))));
}

describe('connections to Redis', () => {
  it('end when they are closed between two tries, and what waited for an answer is rejected', async () => {
    const connections = new RedisConnections('unix:///nowhere/redis.sock', createLogger('silent'));
    const main = connections.open('main');
    const copy = main.duplicate(); // as BullMQ makes one for its blocking calls
    const waiting = assert.rejects(main.get('a'), /closed/i);
    await comes('reconnecting', main, copy);
    const ended = comes('end', main, copy);
    connections.close();
    await Promise.all([ended, waiting]);
    assert.deepEqual([main.status, copy.status], ['end', 'end']);
  });
});
