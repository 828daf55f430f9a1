/** The process: its ready line, its ends, and what it says about a wrong configuration. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { errorJson, isPatchbayError } from '@patchbay/protocol';
import { loadConfig } from '../src/config.js';
import { connectionTarget } from '../src/redis.js';
import { startRedis, type TestRedis } from '../../../tests/support/redis.js';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));

describe('the process', function () {
  this.timeout(60_000);
  let redis: TestRedis;
  let home: string;
  const children: ChildProcess[] = [];
  before(async () => {
    redis = await startRedis();
    home = mkdtempSync(join(tmpdir(), 'pb-orch-'));
  });
  afterEach(() => children.splice(0).forEach((child) => child.kill('SIGKILL')));
  after(async () => {
    await redis.close();
    rmSync(home, { recursive: true, force: true });
  });

  function start(env: Record<string, string>): ChildProcess {
    const given = {
      PATCHBAY_REDIS_URL: redis.url,
      PATCHBAY_HTTP_PORT: '0',
      PATCHBAY_HOME: home,
      PATCHBAY_GATEWAY: '127.0.0.1:1',
    };
    const child = spawn(process.execPath, ['--import', 'tsx', MAIN], {
      env: { ...process.env, ...given, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    children.push(child);
    return child;
  }

  const readyLine = async (child: ChildProcess): Promise<{ ready: boolean; http: string }> => {
    const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
    return JSON.parse(line) as { ready: boolean; http: string };
  };

  it('says when it is ready, with the gateway away, and ends on SIGTERM', async () => {
    const child = start({});
    const { ready, http } = await readyLine(child);
    assert.equal(ready, true);
    const health = (await (await fetch(`${http}/healthz`)).json()) as {
      status: string;
      parts: { gateway: { status: string } };
    };
    assert.deepEqual([health.status, health.parts.gateway.status], ['degraded', 'away']);
    assert.equal((await fetch(`${http}/api/jobs`)).status, 200, 'open without a token');
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  });

  it('ends with its parent when it is told to', async () => {
    const child = start({ PATCHBAY_EXIT_WITH_PARENT: '1' });
    await readyLine(child);
    child.stdin!.end();
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  });

  it('tells of an outage of Redis once, not at every try', async () => {
    const child = start({});
    let log = '';
    child.stderr!.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const { http } = await readyLine(child);
    await redis.kill();
    while (!log.includes('unreachable","part":"redis') && !/"part":"redis"/.test(log))
      await once(child.stderr!, 'data');
    const refused = await fetch(`${http}/api/jobs`, { signal: AbortSignal.timeout(5_000) });
    assert.equal(refused.status, 503);
    assert.equal(errorJson.parse(await refused.json()).code, 'PB_REDIS_UNAVAILABLE');
    await redis.start();
    while (!/"part":"redis".*reachable again/.test(log)) await once(child.stderr!, 'data');
    const lines = log
      .split('\n')
      .filter((line) => line.includes('"part":"redis"') && line.includes('"msg":"unreachable"'));
    assert.equal(lines.length, 1, log);
  });

  it('refuses a wrong configuration, naming the variable', async () => {
    const child = start({ PATCHBAY_HTTP_PORT: 'eighty' });
    let text = '';
    child.stderr!.on('data', (chunk: Buffer) => (text += chunk.toString()));
    assert.deepEqual(await once(child, 'close'), [1, null]);
    const told = errorJson.parse((JSON.parse(text) as { error: unknown }).error);
    assert.deepEqual([told.code, told.path], ['PB_CONFIG_INVALID', 'PATCHBAY_HTTP_PORT']);
  });

  it('prefers the environment to the file, and the file to the default', () => {
    writeFileSync(join(home, 'patchbay.toml'), '[orchestrator]\nhttpPort = 1234\nhttpHost = "::1"\n');
    const config = loadConfig({ PATCHBAY_HTTP_PORT: '4321' }, home);
    assert.deepEqual([config.httpPort, config.httpHost, config.gateway], [4321, '::1', '127.0.0.1:50051']);
    writeFileSync(join(home, 'patchbay.toml'), '[orchestrator]\nport = 1234\n');
    assert.throws(
      () => loadConfig({}, home),
      (cause) => isPatchbayError(cause, 'PB_CONFIG_INVALID'),
    );
  });

  it('knows sockets from URLs', () => {
    assert.deepEqual(connectionTarget('unix:///run/redis.sock'), { path: '/run/redis.sock' });
    assert.deepEqual(connectionTarget('/run/redis.sock'), { path: '/run/redis.sock' });
    assert.equal(connectionTarget('redis://localhost:6379'), 'redis://localhost:6379');
  });
});
