/** The scripts as functions of a Redis that another version of Patchbay has used before. */
import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import { startRedis, type TestRedis } from '../../../tests/support/redis.js';
import { JOB_LIBRARY, JOB_SCRIPTS, appendCall, beginCall, functionCall, lacksFunction } from '../src/index.js';
import { libraryOf } from '../src/job-functions.js';

describe('functions', () => {
  let server: TestRedis;
  let redis: Redis;
  before(async () => {
    server = await startRedis();
    redis = new Redis(server.url.replace('unix://', ''));
  });
  after(async () => {
    redis.disconnect();
    await server.close();
  });

  it('of two versions that have most scripts in common stand beside each other', async () => {
    const [first, ...others] = JOB_SCRIPTS;
    const older = libraryOf([`${first!} -- as it was`, ...others]);
    await redis.function('LOAD', older.text);
    await redis.function('LOAD', JOB_LIBRARY.text);
    const calls = [beginCall('none', 1), appendCall('none', { type: 'log', at: 1, attempt: 1, text: 'x' }, 1)];
    const answers = await Promise.all(calls.map((call) => redis.fcall(...functionCall(call)!)));
    assert.deepEqual(answers, [['missing'], 'stale']);
    for (const name of older.names.values()) assert.ok(![...JOB_LIBRARY.names.values()].includes(name));
    await assert.rejects(redis.function('LOAD', JOB_LIBRARY.text), /Library .* already exists/);
    await assert.rejects(redis.fcall('patchbay_unknown', 0), lacksFunction);
  });
});
