/** The stack's Ray head: ports that were taken in between, and nothing left. Whole stacks: stack.test.ts. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { delimiter } from 'node:path';
import { installation } from '../src/installation.js';
import type { GuardedProcess } from '../src/processes/guarded-process.js';
import { freePorts } from '../src/processes/ports.js';
import { startRay, type RunningRay } from '../src/stack/ray.js';
import { startGateway } from '../src/stack/services.js';
import { isPortTaken } from '../src/stack/start-stack.js';
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

  it('a gateway is not taken for ready by what has its port, and says that it is taken, so that another is tried', async () => {
    const ray = await start();
    const taken = createServer();
    try {
      await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
      const { port } = taken.address() as AddressInfo;
      const [free] = (await freePorts(1)) as [number];
      const env = {
        ...ray.process.options.env,
        RAY_ADDRESS: ray.address,
        PYTHONPATH: installation.pythonPath.join(delimiter),
      };
      const gateway = (at: number): Promise<GuardedProcess> =>
        startGateway({ paths: home(), python: installation.python, port: at, env }, never());
      await assert.rejects(gateway(port), (problem) => isPortTaken(problem));
      await (await gateway(free)).stop();
    } finally {
      taken.close();
      await ray.process.stop();
    }
  });
});
