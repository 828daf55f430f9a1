/** Where the client finds its stack. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ClientConfig } from '../src/options.js';
import { Patchbay } from '../src/index.js';
import { thrown } from './support/thrown.js';

const NOBODY = 2 ** 22 - 1;

describe('options', () => {
  let root: string;
  let cwd: string;

  beforeEach(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), 'pb-options-')));
    cwd = join(root, 'project/deep');
    mkdirSync(cwd, { recursive: true });
  });
  afterEach(() => rmSync(root, { recursive: true }));

  function stack(home: string, name: string, keeperPid = process.pid): void {
    mkdirSync(join(home, 'run'), { recursive: true });
    const info = {
      http: `http://${name}`,
      redisUrl: `redis://${name}`,
      rayAddress: '',
      gateway: '',
      token: `token-${name}`,
      processes: [],
      keeperPid,
    };
    writeFileSync(join(home, 'run/stack.json'), JSON.stringify(info));
  }

  it('finds the stack of a folder above', () => {
    stack(join(root, 'project/.patchbay'), 'above');
    const config = new ClientConfig({}, {}, cwd);
    assert.equal(config.redisUrl(), 'redis://above');
    assert.deepEqual(config.http(), { url: 'http://above', token: 'token-above' });
  });

  it('a stack that starts later is found', async () => {
    const config = new ClientConfig({}, {}, cwd);
    const problem = await thrown(() => config.redisUrl(), 'PB_STACK_NOT_RUNNING');
    assert.ok(problem.message.includes(join(cwd, '.patchbay')));
    stack(join(cwd, '.patchbay'), 'later');
    assert.equal(config.redisUrl(), 'redis://later');
  });

  it('option beats environment beats file beats stack', () => {
    stack(join(cwd, '.patchbay'), 'stack');
    const read = (options: object, environment: NodeJS.ProcessEnv): string =>
      new ClientConfig(options, environment, cwd).redisUrl();
    assert.equal(read({}, {}), 'redis://stack');
    writeFileSync(join(root, 'patchbay.toml'), 'redisUrl = "redis://file"\n[orchestrator]\nport = 1\n');
    assert.equal(read({}, {}), 'redis://file');
    assert.equal(read({}, { PATCHBAY_REDIS_URL: ' redis://environment ' }), 'redis://environment');
    assert.equal(read({ redisUrl: 'redis://option' }, { PATCHBAY_REDIS_URL: 'redis://environment' }), 'redis://option');
    assert.equal(
      read({ redisUrl: undefined }, { PATCHBAY_REDIS_URL: '' }),
      'redis://file',
      'undefined and "" are not set',
    );
  });

  it('a home in the file is relative to the file', () => {
    stack(join(root, 'other'), 'other');
    writeFileSync(join(root, 'patchbay.toml'), 'home = "other"\n');
    assert.equal(new ClientConfig({}, {}, cwd).redisUrl(), 'redis://other');
    assert.equal(new ClientConfig({ home: join(root, 'x') }, {}, cwd).home, join(root, 'x'));
  });

  it('never mixes a configured Redis with the orchestrator of another stack', async () => {
    stack(join(cwd, '.patchbay'), 'local');
    await thrown(() => new ClientConfig({ redisUrl: 'redis://production' }, {}, cwd).http(), 'PB_CONFIG_INVALID');
    assert.equal(new ClientConfig({ redisUrl: 'redis://local' }, {}, cwd).http().url, 'http://local');
    assert.deepEqual(new ClientConfig({ httpUrl: 'http://production' }, {}, cwd).http(), {
      url: 'http://production',
      token: undefined,
    });
  });

  it('a stack that has ended is told as such', async () => {
    stack(join(cwd, '.patchbay'), '127.0.0.1:1', NOBODY);
    await using pb = new Patchbay({ home: join(cwd, '.patchbay') });
    await thrown(() => pb.jobs.get('x').status(), 'PB_STACK_NOT_RUNNING');
    await thrown(() => pb.models.list(), 'PB_STACK_NOT_RUNNING');
    stack(join(cwd, '.patchbay'), '127.0.0.1:1');
    await thrown(() => pb.jobs.get('x').status(), 'PB_REDIS_UNAVAILABLE');
    await thrown(() => pb.models.list(), 'PB_ORCHESTRATOR_UNAVAILABLE');
  });

  it('names the wrong option', async () => {
    assert.match(
      (await thrown(() => new ClientConfig({ httpUrl: 'nonsense' }, {}, cwd), 'PB_CONFIG_INVALID')).message,
      /httpUrl/,
    );
    assert.match(
      (await thrown(() => new ClientConfig({ submitTimeoutMs: -1 }, {}, cwd), 'PB_CONFIG_INVALID')).message,
      /submitTimeoutMs/,
    );
    await thrown(() => new ClientConfig({ redisURL: 'x' } as object, {}, cwd), 'PB_CONFIG_INVALID');
    writeFileSync(join(root, 'patchbay.toml'), 'redisUrl = ');
    assert.match((await thrown(() => new ClientConfig({}, {}, cwd), 'PB_CONFIG_INVALID')).message, /patchbay\.toml/);
  });

  it('importing and constructing open nothing', () => {
    const script = `const before = process.eventNames();
      const { Patchbay } = await import('@patchbay/sdk');
      new Patchbay({ redisUrl: 'redis://127.0.0.1:1' });
      process.stdout.write(JSON.stringify([process.eventNames().filter((name) => !before.includes(name)), process.getActiveResourcesInfo().filter((kind) => /TCP|Timeout/.test(kind))]));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      timeout: 20_000,
    });
    const [handlers, resources] = JSON.parse(output) as [string[], string[]];
    assert.deepEqual(handlers, []);
    assert.deepEqual(resources, []);
  });
});
