/** `patchbay drain` on an orchestrator whose ranks are played. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { held, type FakeJob } from '../../../orchestrator/test/support/fake-cluster.js';
import { Rig, TOKEN } from '../../../orchestrator/test/support/rig.js';
import { installation } from '../../src/installation.js';

describe('drain', function () {
  this.timeout(30_000);
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start();
    await rig.deploy('m');
  });
  afterEach(() => rig.close());

  interface Said {
    readonly status: number;
    readonly out: string;
  }
  async function drain(...args: string[]): Promise<Said> {
    const env = {
      ...process.env,
      PATCHBAY_HOME: rig.home,
      PATCHBAY_REDIS_URL: rig.redis.url,
      PATCHBAY_HTTP_URL: rig.http,
    };
    const child = spawn(process.execPath, [installation.bin, 'drain', ...args, '--json'], {
      env: { ...env, PATCHBAY_TOKEN: TOKEN },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const out = text(child.stdout);
    const [status] = (await once(child, 'exit')) as [number];
    return { status, out: await out };
  }
  async function running(): Promise<{ id: string; job: FakeJob }> {
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    return { id, job };
  }

  it('of a deployment waits for what runs, keeps what waits, and is taken back', async () => {
    const { id, job } = await running();
    const drained = drain('m');
    while (!(await rig.client.hexists('patchbay:queue:jobs-m:meta', 'paused'))) await rig.status(id);
    const waiting = await rig.submit('m');
    job.done();
    const { status, out } = await drained;
    assert.deepEqual([status, JSON.parse(out)], [0, { waiting: 1, running: 0, draining: true, undeployed: false }]);
    assert.equal((await rig.status(id)).state, 'completed');
    assert.equal((await rig.status(waiting)).state, 'queued');
    rig.cluster.script.start = (each) => each.done();
    assert.equal((await drain('m', '--resume')).status, 0);
    await rig.until(waiting, 'completed');
  });

  it('--undeploy takes it off the cluster when nothing runs', async () => {
    assert.equal((await drain('m', '--undeploy')).status, 0);
    assert.deepEqual(rig.cluster.undeploys, ['m']);
    await rig.deploy('m');
    await rig.until(await rig.submit('m'), 'completed'); // the next of the name is not drained
  });

  it('of the orchestrator waits until its last job has ended and it is gone', async () => {
    const { id, job } = await running();
    void rig.orchestrator.drained.then(() => rig.orchestrator.close()); // as the process does
    const drained = drain();
    while (
      (await rig.ask<{ parts: { orchestrator: { draining: boolean } } }>('GET', '/healthz')).body.parts.orchestrator
        .draining === false
    );
    job.done();
    await rig.until(id, 'completed').catch(() => undefined); // its HTTP may be gone
    assert.equal((await drained).status, 0);
    assert.equal(await rig.client.hget(`patchbay:job:${id}`, 'state'), 'completed');
  });

  it('refuses options of a deployment without its name', async () => {
    assert.equal((await drain('--undeploy')).status, 2);
    assert.deepEqual(rig.cluster.undeploys, []);
    assert.equal((await drain('nowhere')).status, 1);
  });
});
