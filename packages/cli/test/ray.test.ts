/** The stack's Ray head: ports that were taken in between, and nothing left. Whole stacks: stack.test.ts. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { installation } from '../src/installation.js';
import { freePorts } from '../src/processes/ports.js';
import { startRay, type RunningRay } from '../src/stack/ray.js';
import { processesNaming } from './processes.js';
import { never, temporaryHome } from './temporary-home.js';

/** The folder that this head was told to use. */
const folderOf = ({ process: { options } }: RunningRay): string => options.remove![0]!;
const portOf = ({ address }: RunningRay): number => Number(address.split(':')[1]);

describe('ray of the stack', function () {
  this.timeout(180_000);
  const home = temporaryHome();
  const start = (ports?: (count: number) => Promise<number[]>): Promise<RunningRay> => {
    writeFileSync(home().rayToken, 'a'.repeat(64), { mode: 0o600 });
    const env = { ...process.env, RAY_AUTH_MODE: 'token', RAY_AUTH_TOKEN_PATH: home().rayToken };
    return startRay(
      { paths: home(), python: installation.python, env, ...(ports !== undefined && { ports }) },
      never(),
    );
  };

  it('starts with other ports when one was taken in between', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '0.0.0.0', resolve));
    const busy = (taken.address() as { port: number }).port;
    let calls = 0;
    const ray = await start(async (count) =>
      calls++ === 0 ? [busy, ...(await freePorts(count - 1))] : freePorts(count),
    );
    await ray.process.stop();
    taken.close();
    assert.deepEqual(processesNaming(folderOf(ray)), []);
    assert.ok(!existsSync(folderOf(ray)));
    assert.equal(calls, 2);
    assert.notEqual(portOf(ray), busy);
  });
});
