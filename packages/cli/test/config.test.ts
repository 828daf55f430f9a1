/** option > environment > patchbay.toml > default. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deploymentName, isPatchbayError } from '@patchbay/protocol';
import { installation, resolveModel } from '../src/installation.js';
import { loadConfig, sandboxEnvironment } from '../src/config.js';
import { temporaryHome } from './temporary-home.js';

describe('configuration', () => {
  const temporary = temporaryHome();
  const toml = (text: string): void => writeFileSync(join(temporary().home, 'patchbay.toml'), text);

  it('takes each setting from the first place that has it', async () => {
    const cwd = temporary().home;
    toml('redisUrl = "redis://file"\nhttpPort = 1001\ntoken = "file"\n');
    const environment = { PATCHBAY_HTTP_PORT: '1002', PATCHBAY_TOKEN: 'environment', PATCHBAY_REDIS_URL: '' };
    const { redisUrl, httpPort, token, python } = await loadConfig({ token: 'option' }, environment, cwd);
    assert.deepEqual(
      { redisUrl, httpPort, token, python },
      { redisUrl: 'redis://file', httpPort: 1002, token: 'option', python: installation.python },
    );
  });

  it('finds the home up the tree, else takes it here', async () => {
    const cwd = temporary().home;
    const deep = join(cwd, 'a/b');
    mkdirSync(deep, { recursive: true });
    assert.equal((await loadConfig({}, {}, deep)).home, join(deep, '.patchbay'));
    mkdirSync(join(cwd, '.patchbay'));
    assert.equal((await loadConfig({}, {}, deep)).home, join(cwd, '.patchbay'));
    toml('home = "state"');
    assert.equal((await loadConfig({}, {}, deep)).home, join(cwd, 'state'), 'relative to the file');
    assert.equal((await loadConfig({}, { PATCHBAY_HOME: 'mine' }, deep)).home, join(deep, 'mine'), 'relative to here');
  });

  it('prefers a running stack further up to an empty folder nearby', async () => {
    const cwd = temporary().home;
    const deep = join(cwd, 'a/.patchbay');
    mkdirSync(deep, { recursive: true });
    mkdirSync(join(cwd, '.patchbay/run'), { recursive: true });
    writeFileSync(join(cwd, '.patchbay/run/stack.json'), '{}');
    assert.equal((await loadConfig({}, {}, join(cwd, 'a'))).home, join(cwd, '.patchbay'));
  });

  it('takes the sandbox from its table, and hands it on to the nodes', async () => {
    const cwd = temporary().home;
    toml('[sandbox]\nminimum = "confined"\nmaxEditMemoryBytes = 1000\n');
    const environment = { PATCHBAY_SANDBOX_MAX_EDIT_MEMORY_BYTES: '2000' };
    assert.deepEqual(sandboxEnvironment(await loadConfig({ sandboxMinimum: 'isolated' }, environment, cwd)), {
      PATCHBAY_SANDBOX_MINIMUM: 'isolated',
      PATCHBAY_SANDBOX_MAX_EDIT_MEMORY_BYTES: '2000',
    });
    const file = await loadConfig({}, {}, cwd);
    assert.deepEqual([file.sandboxMinimum, file.sandboxMaxEditMemoryBytes], ['confined', 1000]);
  });

  it('leaves the tables of other parts alone', async () => {
    toml('[orchestrator]\nhttpHost = "0.0.0.0"\n');
    await loadConfig({}, {}, temporary().home);
  });

  const refused: [string, string, NodeJS.ProcessEnv, RegExp][] = [
    ['an unknown key', 'redis_url = "x"', {}, /redis_url in .*patchbay\.toml: unknown key; known are .*redisUrl/],
    ['what is no TOML', 'redisUrl = ', {}, /patchbay\.toml/],
    ['a wrong level', '[sandbox]\nminimum = "safe"', {}, /sandboxMinimum in .*patchbay\.toml/],
    ['an unknown key of the sandbox', '[sandbox]\nmaxFiles = 3', {}, /sandboxMaxFiles in .*unknown key/],
    ['a wrong value', '', { PATCHBAY_HTTP_PORT: 'http' }, /PATCHBAY_HTTP_PORT/],
  ];
  for (const [what, text, environment, words] of refused) {
    it(`refuses ${what} and says where`, async () => {
      toml(text);
      await assert.rejects(
        loadConfig({}, environment, temporary().home),
        (problem) => isPatchbayError(problem, 'PB_CONFIG_INVALID') && words.test(problem.message),
      );
    });
  }

  it('knows built-in models, paths and hub names', () => {
    assert.equal(resolveModel('tiny-facts'), join(installation.models, 'tiny-facts'));
    assert.equal(resolveModel('./x', '/somewhere'), '/somewhere/x');
    assert.equal(resolveModel('org/model', '/somewhere'), 'org/model');
    assert.deepEqual(['org/model-1.5', '/a/b/my model/', 'tiny-facts'].map(deploymentName), [
      'model-1.5',
      'my-model',
      'tiny-facts',
    ]);
  });
});
