/** What a script meets when Redis is not there, goes away, or comes back. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beginCall, keys, transitionCall, type JobState } from '@patchbay/protocol';
import { Redis } from 'ioredis';
import { Patchbay, type JobSpec } from '../src/index.js';
import { startRedis, type TestRedis } from '../../../tests/support/redis.js';
import { MODEL, resultOf } from './support/scripted-stack.js';
import { thrown } from './support/thrown.js';

const spec: JobSpec = { model: MODEL, runs: [{ inputs: { text: ['a'] } }] };

/** Moves a job without a consumer. */
async function move(url: string, jobId: string, ...steps: [state: string, result?: string][]): Promise<void> {
  const redis = new Redis(url.replace('unix://', ''));
  for (const [state, result = ''] of steps) {
    const call =
      state === 'placing'
        ? beginCall(jobId, Date.now())
        : transitionCall(jobId, state as JobState, 1, Date.now(), { result });
    const [verdict] = (await redis.eval(...call)) as [string];
    assert.equal(verdict, 'ok');
  }
  redis.disconnect();
}

describe('Redis away', () => {
  let server: TestRedis;
  let pb: Patchbay;

  beforeEach(async () => {
    server = await startRedis();
    const redis = new Redis(server.url.replace('unix://', ''));
    await redis.hset(keys.deployments, MODEL, '{}');
    redis.disconnect();
    pb = new Patchbay({ redisUrl: server.url, reconnectTimeoutMs: 20_000 });
  });
  afterEach(async () => {
    await pb.close();
    await server.close();
  });

  it('a wait goes on when Redis is back', async () => {
    const job = await pb.jobs.submit(spec);
    const seen: string[] = [];
    const iterating = (async () => {
      for await (const event of job.events()) if (event.type === 'state') seen.push(event.state);
    })();
    const waiting = job.result();
    await move(server.url, job.id, ['placing'], ['running']);
    await server.kill();
    await server.start();
    await move(server.url, job.id, ['completed', JSON.stringify(resultOf(job.id))]);
    assert.equal((await waiting).jobId, job.id);
    await iterating;
    assert.deepEqual(seen, ['queued', 'placing', 'running', 'completed'], 'every event once');
    const next = await pb.jobs.submit(spec); // the command connection was lost too
    assert.equal((await next.status()).state, 'queued');
  });

  it('a wait is bounded by its timeout while Redis is away', async () => {
    const job = await pb.jobs.submit(spec);
    const own = await pb.jobs.submit(spec, { jobId: 'of-my-own' });
    await server.kill();
    await thrown(() => job.result({ timeoutMs: 100 }), 'PB_WAIT_TIMEOUT');
    await thrown(() => own.result({ timeoutMs: 100 }), 'PB_WAIT_TIMEOUT');
    const problem = await thrown(() => job.status(), 'PB_REDIS_UNAVAILABLE');
    assert.equal(problem.retryable, true);
    await thrown(() => pb.jobs.submit(spec), 'PB_REDIS_UNAVAILABLE');
  });

  it('a wait ends when Redis stays away longer than the client is told to bear', async () => {
    await using impatient = new Patchbay({ redisUrl: server.url, reconnectTimeoutMs: 50 });
    const job = await impatient.jobs.submit(spec);
    const waiting = thrown(() => job.result(), 'PB_REDIS_UNAVAILABLE');
    await server.kill();
    await waiting;
  });

  it('a Redis that lost its data does not let a wait hang', async () => {
    const job = await pb.jobs.submit(spec);
    const waiting = thrown(() => job.result(), 'PB_JOB_NOT_FOUND');
    const redis = new Redis(server.url.replace('unix://', ''));
    await redis.flushall();
    redis.disconnect();
    await server.kill();
    await server.start();
    await waiting;
  });

  it('nothing listens: told quickly, with the address but not the password', async () => {
    await using away = new Patchbay({ redisUrl: 'redis://:geheim@127.0.0.1:1' });
    const started = Date.now();
    const problem = await thrown(() => away.jobs.submit(spec), 'PB_REDIS_UNAVAILABLE');
    assert.ok(!problem.message.includes('geheim'));
    assert.match(problem.message, /127\.0\.0\.1:1.*ECONNREFUSED/);
    await thrown(() => away.jobs.get('x').result(), 'PB_REDIS_UNAVAILABLE');
    assert.ok(Date.now() - started < 4_000, 'no retries with growing pauses');
  });

  it('a server that never answers: told after the connect timeout', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'pb-mute-'));
    const mute = createServer(() => undefined).listen(join(folder, 's'));
    await using client = new Patchbay({ redisUrl: join(folder, 's'), connectTimeoutMs: 100 });
    await using patient = new Patchbay({ redisUrl: join(folder, 's') });
    try {
      assert.match(
        (await thrown(() => client.jobs.submit(spec), 'PB_REDIS_UNAVAILABLE')).message,
        /no answer within 100 ms/,
      );
      await thrown(() => patient.jobs.submit(spec, { timeoutMs: 20 }), 'PB_SUBMIT_TIMEOUT');
    } finally {
      mute.close();
      rmSync(folder, { recursive: true });
    }
  });

  it('a user without the right to unblock can follow too', async () => {
    const redis = new Redis(server.url.replace('unix://', ''));
    await redis.acl('SETUSER', 'plain', 'on', '>pw', '~patchbay:*', '&patchbay:*', '+@all', '-client|unblock');
    redis.disconnect();
    const proxy = createServer((socket) => {
      import('node:net').then(({ connect }) => {
        const upstream = connect(server.url.replace('unix://', ''));
        socket.pipe(upstream).pipe(socket);
        for (const end of [socket, upstream]) end.on('error', () => void (socket.destroy(), upstream.destroy()));
      }, assert.fail);
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const { port } = proxy.address() as { port: number };
    await using client = new Patchbay({ redisUrl: `redis://plain:pw@127.0.0.1:${port}` });
    const first = await client.jobs.submit(spec);
    const waiting = first.result({ timeoutMs: 15_000 });
    const second = await client.jobs.submit(spec);
    await move(server.url, second.id, ['placing'], ['running'], ['completed', JSON.stringify(resultOf(second.id))]);
    await second.result({ timeoutMs: 4_000 });
    await move(server.url, first.id, ['placing'], ['running'], ['completed', JSON.stringify(resultOf(first.id))]);
    await waiting;
    await client.close();
    proxy.close();
  });
});
