/** What a shell sees of the commands without a stack: exit codes, help, usage errors, the JSON of errors. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { errorJson, type ErrorJson } from '@patchbay/protocol';
import { installation } from '../src/installation.js';
import { temporaryHome } from './temporary-home.js';

describe('patchbay', function () {
  this.timeout(60_000);
  const home = temporaryHome();
  const run = (args: readonly string[], input = ''): { status: number | null; stdout: string; stderr: string } => {
    const env = {
      ...process.env,
      PATCHBAY_HOME: home().home,
      NO_COLOR: '1',
      PATCHBAY_REDIS_URL: '',
      PATCHBAY_HTTP_URL: '',
    };
    const { status, stdout, stderr } = spawnSync(process.execPath, [installation.bin, ...args], {
      encoding: 'utf8',
      timeout: 60_000,
      env,
      cwd: home().home,
      input,
    });
    return { status, stdout, stderr };
  };

  it('tells what there is, with status 0', () => {
    const { status, stdout } = run(['--help']);
    assert.equal(status, 0);
    for (const name of [
      'up',
      'down',
      'doctor',
      'deploy',
      'undeploy',
      'models',
      'run',
      'submit',
      'result',
      'validate',
      'jobs',
      'job',
      'logs',
      'events',
      'cancel',
    ]) {
      assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
    }
    assert.match(run(['up', '--help']).stdout, /--detach/);
    assert.match(run(['--version']).stdout, /^\d+\.\d+\.\d+\n$/);
  });

  const wrong: [string, string[]][] = [
    ['no command', []],
    ['an unknown command', ['frobnicate']],
    ['an unknown option', ['jobs', '--frobnicate']],
    ['a missing argument', ['run']],
    ['a number that is none', ['up', '--tp', 'many']],
    ['a number below one', ['deploy', 'm', '--tp', '0']],
    ['a state that is none', ['jobs', '--state', 'sleeping']],
    ['a label without value', ['jobs', '--label', 'x']],
    ['too many arguments', ['down', 'now']],
  ];
  for (const [what, args] of wrong) {
    it(`ends with 2 on ${what}, and prints no data`, () => {
      const { status, stdout, stderr } = run(args);
      assert.equal(status, 2, stderr);
      assert.ok(args.length === 0 || (stdout === '' && stderr !== ''));
    });
  }

  it('prints usage errors as the one JSON object with --json', () => {
    for (const args of [
      ['run', '--json'],
      ['jobs', '--state', 'sleeping', '--json'],
      ['frobnicate', '--json'],
    ]) {
      const { status, stdout } = run(args);
      assert.equal(status, 2);
      assert.equal(errorJson.parse(JSON.parse(stdout)).code, 'PB_USAGE');
    }
  });

  it('ends with 1 without a stack, with message and fix on stderr and the error object on stdout', () => {
    const { status, stdout, stderr } = run(['jobs', '--json']);
    assert.equal(status, 1, stderr);
    const problem: ErrorJson = errorJson.parse(JSON.parse(stdout));
    assert.equal(problem.code, 'PB_STACK_NOT_RUNNING');
    assert.ok(stderr.includes(problem.message) && stderr.includes('patchbay up'));
  });

  it('refuses documents that are missing or no JSON before it needs a stack', () => {
    const file = join(home().home, 'job.json');
    writeFileSync(file, '{"version": 1,');
    assert.match(run(['submit', file]).stderr, /job\.json is not JSON/);
    assert.match(run(['submit', 'nowhere.json']).stderr, /nowhere\.json cannot be read/);
    assert.match(run(['submit', '-'], 'nonsense').stderr, /stdin is not JSON/);
    assert.equal(run(['submit', file]).status, 1);
  });

  it('down is content when nothing runs', () => {
    const { status, stdout } = run(['down', '--json']);
    assert.equal(status, 0);
    assert.deepEqual(JSON.parse(stdout), { stopped: false, home: home().home });
  });

  it('doctor names every check, and the fix of what is wrong', () => {
    const { stdout } = run(['doctor', '--json']);
    const { checks } = JSON.parse(stdout) as { checks: { name: string; status: string; fix?: string }[] };
    for (const name of [
      'node',
      'python',
      'python packages',
      'redis',
      'ports',
      'shared memory',
      'disk',
      'stack',
      'sandbox',
    ])
      assert.ok(
        checks.some((check) => check.name === name),
        name,
      );
    for (const check of checks)
      assert.ok(check.status === 'ok' || check.status === 'info' || check.fix !== undefined, check.name);
  });

  it('doctor ends with 1 when Python is missing, and says what to do', () => {
    writeFileSync(join(home().home, 'patchbay.toml'), 'python = "/nowhere/python"');
    const { status, stdout } = run(['doctor']);
    assert.equal(status, 1);
    assert.match(stdout, /FAIL\s+python\s+\/nowhere\/python is missing/);
    assert.match(stdout, /python: Run npm run setup/);
  });

  it('ends with 130 on Ctrl-C', async () => {
    const silent = createServer(() => child.kill('SIGINT')); // the question is there, the answer never comes
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const child = spawn(process.execPath, [installation.bin, 'models', '--http-url', url], {
      env: { ...process.env, PATCHBAY_HOME: home().home },
      stdio: 'ignore',
    });
    const ended = await new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal)));
    silent.closeAllConnections();
    silent.close();
    assert.equal(ended, 130);
  });
});
