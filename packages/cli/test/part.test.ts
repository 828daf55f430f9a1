/** Keeping a part alive: restarts with back-off, dependents, and a stop at any moment. */
import assert from 'node:assert/strict';
import { GuardedProcess } from '../src/processes/guarded-process.js';
import { Part } from '../src/processes/part.js';
import { waitFor } from '../src/processes/wait.js';
import { never, temporaryHome } from './temporary-home.js';

const LIMIT = { timeoutMs: 15_000 };

describe('a part of the stack', function () {
  this.timeout(60_000);
  const home = temporaryHome();
  const parts: Part[] = [];
  afterEach(async () => {
    await Promise.all(parts.splice(0).map((part) => part.stop('kill')));
  });

  const spawn = (...command: string[]): Promise<GuardedProcess> =>
    GuardedProcess.start({
      name: 'redis',
      command,
      env: process.env,
      log: home().log('redis'),
      python: 'python3',
      graceSeconds: 1,
    });
  function part(
    start: (signal: AbortSignal) => Promise<GuardedProcess>,
    more: { needs?: Part; after?: Part; changes?: string[] } = {},
  ): Part {
    const { changes, ...order } = more;
    const made = new Part({
      name: 'redis',
      ...order,
      start,
      onProgress: (message) => void changes?.push(message),
      onChange: () => undefined,
    });
    parts.push(made);
    return made;
  }

  it('is started again when it dies, also when a start fails in between', async () => {
    let starts = 0;
    const changes: string[] = [];
    const one = part(
      async () => {
        if (++starts === 2) throw new Error('not this time');
        return spawn('sleep', '300');
      },
      { changes },
    );
    await one.start(never());
    const first = one.pid!;
    process.kill(first, 'SIGKILL');
    assert.ok(await waitFor(() => (one.pid !== undefined && one.pid !== first ? true : undefined), LIMIT));
    assert.equal(starts, 3);
    assert.ok(changes.includes('not this time'));
  });

  it('throws what the first start throws', async () => {
    await assert.rejects(part(() => Promise.reject(new Error('no such thing'))).start(never()), /no such thing/);
  });

  it('can be stopped while what it waits for never gets ready', async () => {
    const stuck = part(
      (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    );
    const waiting = part(() => spawn('sleep', '300'), { after: stuck });
    const [first, second] = [stuck.start(never()), waiting.start(never())];
    await waiting.stop();
    await assert.rejects(second);
    await stuck.stop();
    await assert.rejects(first);
  });

  it('is not started again after a stop', async () => {
    let starts = 0;
    const one = part(() => (starts++, spawn('sleep', '300')));
    await one.start(never());
    await one.stop();
    assert.equal(one.pid, undefined);
    assert.equal(starts, 1);
  });
});
