/** Every fault that doctor knows, provoked: what it says and which fix it names. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machineChecks, nodeCheck, spaceCheck } from '../src/doctor/machine.js';
import { clockCheck, gpuCheck, portCheck, rayVersionCheck, wheelCheck } from '../src/doctor/hardware.js';
import type { Check } from '../src/doctor/diagnose.js';
import { artifactUrlCheck } from '../src/doctor/running-stack.js';
import { sandboxSelfTest } from '../src/doctor/sandbox.js';
import { startRedis, type TestRedis } from '../../../tests/support/redis.js';

const GOOD = { python: '3.12.1', machine: 'x86_64', libc: 'glibc 2.36', torchCuda: '12.8' };
const PACKAGES = Object.fromEntries(
  ['ray', 'torch', 'transformers', 'accelerate', 'safetensors', 'grpcio', 'numpy'].map((name) => [name, '1.0']),
);

describe('doctor', () => {
  let folder: string;
  let interpreters = 0;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'pb-doctor-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** An interpreter that tells these facts, whatever it is asked. */
  const pythonThatTells = (facts: object): string => {
    const path = join(folder, `python-${++interpreters}`);
    writeFileSync(path, `#!/bin/sh\necho '${JSON.stringify({ ...GOOD, packages: PACKAGES, ...facts })}'\n`);
    chmodSync(path, 0o755);
    return path;
  };
  const checked = async (name: string, more: object): Promise<Check> => {
    const config = { home: folder, python: pythonThatTells({}), ...more };
    const found = (await machineChecks(config)).find((check) => check.name === name);
    assert.ok(found, `there is no check of ${name}`);
    return found;
  };
  const fails = (check: Check, found: RegExp, fix: RegExp, status: Check['status'] = 'fail'): void => {
    assert.equal(check.status, status, JSON.stringify(check));
    assert.match(check.found, found);
    assert.match(check.fix ?? '', fix);
  };

  it('finds nothing where nothing is wrong', async () => {
    for (const name of ['node', 'python', 'python packages', 'wheels'])
      assert.equal((await checked(name, {})).status, 'ok', name);
  });

  it('an old Node', () => {
    fails(nodeCheck('18.20.4'), /18\.20\.4/, /Node 20\.19 or newer/);
    fails(nodeCheck('20.9.0'), /20\.9\.0/, /Node 20\.19 or newer/);
    assert.equal(nodeCheck('22.1.0').status, 'ok');
  });

  it('a disk or shared memory that is too small', async () => {
    fails(spaceCheck('shared memory', 64e6, 512e6, 'Give more.'), /0\.1 GB free/, /Give more/, 'warn');
    assert.equal(spaceCheck('shared memory', undefined, 512e6, '').status, 'info');
    for (const name of ['shared memory', 'disk', 'memory'])
      assert.match((await checked(name, {})).found, /^\d+\.\d GB free$|not known/);
  });

  it('an old Python', async () => {
    fails(await checked('python', { python: pythonThatTells({ python: '3.9.2' }) }), /3\.9\.2/, /3\.11 or newer/);
  });

  it('no Python', async () => {
    fails(await checked('python', { python: join(folder, 'nowhere') }), /is missing/, /npm run setup/);
  });

  it('missing packages', async () => {
    const python = pythonThatTells({ packages: { ...PACKAGES, torch: null, ray: null } });
    fails(await checked('python packages', { python }), /missing: ray, torch/, /npm run setup/);
  });

  it('a machine that has no wheels', async () => {
    fails(await checked('wheels', { python: pythonThatTells({ libc: '' }) }), /no wheels/, /Alpine/);
    fails(wheelCheck({ machine: 'armv7l', libc: 'glibc 2.36' }), /armv7l/, /x86_64 or aarch64/);
  });

  it('a GPU and torch without CUDA', () => {
    fails(gpuCheck({ ...GOOD, torchCuda: null }, ['H100', 'H100']), /2 \(H100\).*without CUDA/, /CUDA build/, 'warn');
    assert.equal(gpuCheck(GOOD, ['H100']).status, 'ok');
    assert.equal(gpuCheck({ ...GOOD, torchCuda: null }, []).status, 'info');
  });

  it('clocks that differ, either way', () => {
    fails(clockCheck(5_000), /5\.0 s ahead/, /timedatectl/, 'warn');
    fails(clockCheck(-61_000), /61\.0 s behind/, /timedatectl/, 'warn');
    assert.equal(clockCheck(200).status, 'ok');
  });

  it('a Ray of another version, and one that is not there', async () => {
    fails(rayVersionCheck('2.58.0', '2.40.1', 'head:6379'), /2\.58\.0 here, but 2\.40\.1/, /ray==2\.40\.1/);
    assert.equal(rayVersionCheck('2.58.0', '2.58.1', 'head:6379').status, 'ok');
    fails(await checked('ray version', { rayAddress: '127.0.0.1:9' }), /does not answer/, /RAY_ADDRESS/);
  });

  it('a port that is taken', async () => {
    const server = createServer();
    const port = await new Promise<number>((resolve) =>
      server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
    );
    try {
      fails(await checked('http port', { httpPort: port }), new RegExp(`${port} is taken`), /PATCHBAY_HTTP_PORT/);
    } finally {
      server.close();
    }
    assert.equal(portCheck(8080, true).status, 'ok');
  });

  it('an artifact URL that leads to nothing of ours, and one that does', async () => {
    const server = createHttpServer((request, response) =>
      response.end(request.url === '/healthz' ? '{"status":"ok"}' : ''),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    assert.equal((await artifactUrlCheck(url)).status, 'ok');
    await new Promise((resolve) => server.close(resolve));
    const check = await artifactUrlCheck(url);
    assert.equal(check.status, 'fail');
    assert.match(check.fix ?? '', /PATCHBAY_HTTP_HOST/);
  });

  it('a Redis that is not there', async () => {
    const check = await checked('redis', { redisUrl: 'redis://:secret@127.0.0.1:9' });
    fails(check, /cannot be reached/, /PATCHBAY_REDIS_URL/);
    assert.doesNotMatch(JSON.stringify(check), /secret/);
  });

  it('a Redis that is too old', async () => {
    const info = 'redis_version:5.0.7\r\nloading:0\r\n';
    const answers: Record<string, string> = {
      info: `$${info.length}\r\n${info}\r\n`,
      time: `*2\r\n$10\r\n${Math.floor(Date.now() / 1000)}\r\n$1\r\n0\r\n`,
      ping: '+PONG\r\n',
    };
    const server = createServer((socket) =>
      socket.on('data', (data: Buffer) => {
        for (const [, command] of data.toString().matchAll(/\*\d+\r\n\$\d+\r\n(\w+)/g))
          socket.write(answers[command!.toLowerCase()] ?? '+OK\r\n');
      }),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const redisUrl = `redis://127.0.0.1:${(server.address() as AddressInfo).port}`;
      fails(await checked('redis', { redisUrl }), /version is 5\.0\.7, 6\.2 or newer/, /Use another Redis/);
    } finally {
      server.close();
    }
  });

  describe('with a Redis', () => {
    let redis: TestRedis;
    before(async () => {
      redis = await startRedis();
    });
    after(() => redis.close());

    it('of the wrong eviction policy', async () => {
      assert.equal((await checked('redis', { redisUrl: redis.url })).status, 'ok');
      const { Redis } = await import('ioredis');
      const client = new Redis(redis.url);
      await client.config('SET', 'maxmemory-policy', 'allkeys-lru');
      await client.config('SET', 'maxmemory', '100mb');
      await client.quit();
      fails(await checked('redis', { redisUrl: redis.url }), /allkeys-lru.*delete waiting jobs/, /Use another Redis/);
    });
  });

  it('the sandbox level that this machine reaches, by its own attacks', async function () {
    this.timeout(120_000); // as long as the command itself gives it
    const python = join(import.meta.dirname, '../../../.venv/bin/python');
    const config = { python: process.env['PATCHBAY_PYTHON'] ?? python, sandboxMinimum: 'filtered' as const };
    const check = await sandboxSelfTest(config);
    assert.match(check.found, /^(isolated|confined|filtered): edits have no files.*refused below filtered/);
  });

  it('a sandbox that is too weak: the failed probe and the fix', async () => {
    const refusal = { code: 'PB_SANDBOX_LEVEL', message: 'below confined', hint: 'Set a sysctl.', retryable: false };
    const probes = [{ name: 'namespaces', ok: false, reason: 'EPERM', fix: 'Allow them.' }];
    const refused = pythonThatTells({ level: 'trusted', probes, refusal });
    fails(await sandboxSelfTest({ python: refused }), /below confined/, /Set a sysctl/);
    const weaker = pythonThatTells({ level: 'confined', probes, refusal: null });
    fails(await sandboxSelfTest({ python: weaker }), /^confined/, /namespaces: EPERM. Allow them/, 'warn');
    fails(await sandboxSelfTest({ python: join(folder, 'nowhere') }), /did not run/, /npm run setup/);
  });

  it('whether a cgroup holds edits as well; its absence alone is no warning', async () => {
    const told = (cgroup: object): Promise<Check> =>
      sandboxSelfTest({ python: pythonThatTells({ level: 'isolated', probes: [cgroup], refusal: null }) });
    const without = await told({ name: 'cgroup', ok: false, reason: 'version 1', fix: 'see the page' });
    assert.equal(without.status, 'ok');
    assert.match(without.found, /^isolated: .*; no cgroup \(version 1\)/);
    assert.match((await told({ name: 'cgroup', ok: true })).found, /; memory and threads also by a cgroup/);
  });

  it('a stack that is not running names the command to type', async () => {
    const { stackChecks } = await import('../src/doctor/running-stack.js');
    const [stack] = await stackChecks({ home: join(folder, 'empty'), python: 'python3' });
    fails(stack!, /not running/, /patchbay up/, 'info');
  });
});
