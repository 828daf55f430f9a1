/** One keeper per home: the lock, its stale remains, and what scripts see. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { isPatchbayError } from '@patchbay/protocol';
import { processStart, readStack, releaseKeeper, takeKeeper, writeProcesses, writeStack } from '../src/stack/keeper.js';
import { stopStack } from '../src/stack/stop-stack.js';
import { temporaryHome } from './temporary-home.js';

const INFO = {
  http: 'http://127.0.0.1:1',
  redisUrl: 'unix:///x',
  rayAddress: '127.0.0.1:2',
  gateway: '127.0.0.1:3',
  token: 't',
  processes: [],
  keeperPid: process.pid,
};

describe('keeper of a home', function () {
  this.timeout(60_000);
  const home = temporaryHome();
  /** As a keeper that was killed leaves it. */
  const leaveStale = (processes: { name: string; pid: number; start: string }[] = []): void => {
    const { pid } = spawnSync('true');
    writeFileSync(home().keeperFile, JSON.stringify({ pid, start: '1', processes }));
    writeFileSync(home().stackFile, JSON.stringify({ ...INFO, keeperPid: pid }));
  };

  it('lets one in and refuses the second with its pid', async () => {
    await takeKeeper(home());
    await assert.rejects(
      takeKeeper(home()),
      (problem) => isPatchbayError(problem, 'PB_STACK_RUNNING') && problem.message.includes(String(process.pid)),
    );
    releaseKeeper(home());
    await takeKeeper(home());
  });

  it('shows the stack only while its keeper lives, and to its owner alone', async () => {
    await takeKeeper(home());
    writeStack(home(), INFO);
    writeProcesses(home(), [{ name: 'redis', pid: process.pid }]);
    assert.deepEqual(readStack(home()), INFO);
    assert.equal(statSync(home().stackFile).mode & 0o777, 0o600);
    assert.equal(statSync(home().keeperFile).mode & 0o777, 0o600);
    leaveStale();
    assert.equal(readStack(home()), undefined);
  });

  it('takes over from a dead one when its processes are gone', async () => {
    const left = spawn('sleep', ['0.5']);
    leaveStale([{ name: 'redis', pid: left.pid!, start: processStart(left.pid!) }]);
    await takeKeeper(home());
    assert.equal(processStart(left.pid!), '', 'its processes had ended first');
    assert.ok(!existsSync(home().stackFile));
    assert.deepEqual(readdirSync(home().run), ['keeper.json']);
  });

  it('down removes what a dead one left, and says that nothing ran', async () => {
    leaveStale();
    assert.equal(await stopStack(home().home), false);
    assert.deepEqual(readdirSync(home().run), []);
    assert.equal(await stopStack(home().home), false);
  });

  it('down kills a keeper that does not listen', async () => {
    const deaf = spawn('sh', ['-c', 'trap "" TERM; echo ready; while :; do sleep 1; done'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await new Promise((resolve) => deaf.stdout.once('data', resolve));
    writeFileSync(home().keeperFile, JSON.stringify({ pid: deaf.pid, start: processStart(deaf.pid!), processes: [] }));
    assert.equal(await stopStack(home().home, { graceMs: 200 }), true);
    assert.equal(processStart(deaf.pid!), '');
    assert.deepEqual(readdirSync(home().run), []);
  });
});
