/** `patchbay drain` on an orchestrator whose ranks are played. */
import assert from 'node:assert/strict';
import { held, type FakeJob } from '../../../orchestrator/test/support/fake-cluster.js';
import { played, type Command } from '../../../../tests/support/played-command.js';

describe('drain', function () {
  this.timeout(30_000);
  const on = played();
  const drain = (...args: string[]): Command['ended'] => on.start('drain', ...args, '--json').ended;
  async function running(): Promise<{ id: string; job: FakeJob }> {
    const next = held(on.rig.cluster);
    const id = await on.rig.submit('m');
    const job = await next();
    job.running();
    await on.rig.until(id, 'running');
    return { id, job };
  }

  it('of a deployment waits for what runs, keeps what waits, and is taken back', async () => {
    const { id, job } = await running();
    const drained = drain('m');
    while (!(await on.rig.client.hexists('patchbay:queue:jobs-m:meta', 'paused'))) await on.rig.status(id);
    const waiting = await on.rig.submit('m');
    job.done();
    const { status, stdout } = await drained;
    assert.deepEqual([status, JSON.parse(stdout)], [0, { waiting: 1, running: 0, draining: true, undeployed: false }]);
    assert.equal((await on.rig.status(id)).state, 'completed');
    assert.equal((await on.rig.status(waiting)).state, 'queued');
    on.rig.cluster.script.start = (each) => each.done();
    assert.equal((await drain('m', '--resume')).status, 0);
    await on.rig.until(waiting, 'completed');
  });

  it('--undeploy takes it off the cluster when nothing runs', async () => {
    assert.equal((await drain('m', '--undeploy')).status, 0);
    assert.deepEqual(on.rig.cluster.undeploys, ['m']);
    await on.rig.deploy('m');
    await on.rig.until(await on.rig.submit('m'), 'completed'); // the next of the name is not drained
  });

  it('of the orchestrator waits until its last job has ended and it is gone', async () => {
    const { id, job } = await running();
    void on.rig.orchestrator.drained.then(() => on.rig.orchestrator.close()); // as the process does
    const drained = drain();
    while (
      (await on.rig.ask<{ parts: { orchestrator: { draining: boolean } } }>('GET', '/healthz')).body.parts.orchestrator
        .draining === false
    );
    job.done();
    await on.rig.until(id, 'completed').catch(() => undefined); // its HTTP may be gone
    assert.equal((await drained).status, 0);
    assert.equal(await on.rig.client.hget(`patchbay:job:${id}`, 'state'), 'completed');
  });

  it('refuses options of a deployment without its name', async () => {
    assert.equal((await drain('--undeploy')).status, 2);
    assert.deepEqual(on.rig.cluster.undeploys, []);
    assert.equal((await drain('nowhere')).status, 1);
  });
});
