/** Ctrl-C of `patchbay run`: the job goes on, unless it was asked to end with it. On an orchestrator whose ranks are played. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { held } from '../../../orchestrator/test/support/fake-cluster.js';
import { played } from '../../../../tests/support/played-command.js';

const DOCUMENT = { version: 1, model: 'm', runs: [{ inputs: { tokenIds: [[1]] } }] };

describe('an interrupted run', function () {
  this.timeout(30_000);
  const on = played();

  /** Runs a job until it runs, presses Ctrl-C, and resolves to what the command said. */
  async function interrupted(jobId: string, ...flags: string[]): Promise<{ status: number; stderr: string }> {
    const next = held(on.rig.cluster);
    const path = join(on.rig.home, 'job.json');
    writeFileSync(path, JSON.stringify(DOCUMENT));
    const { process: child, ended } = on.start('run', path, '--job-id', jobId, ...flags);
    (await next()).running();
    await on.rig.until(jobId, 'running');
    child.kill('SIGINT');
    return ended;
  }

  it('leaves the job running and says how to find it', async () => {
    const { status, stderr } = await interrupted('goes-on');
    assert.equal(status, 130);
    assert.match(stderr, /patchbay result goes-on/);
    assert.equal((await on.rig.status('goes-on')).state, 'running');
    assert.equal((await on.rig.status('goes-on')).cancelRequested, undefined);
  });

  it('--cancel-on-interrupt ends the job, too', async () => {
    const { status, stderr } = await interrupted('ends', '--cancel-on-interrupt');
    assert.equal(status, 130);
    assert.match(stderr, /ends is (cancelled|running, to be cancelled)/);
    const { error } = await on.rig.until('ends', 'cancelled');
    assert.equal(error?.code, 'PB_JOB_CANCELLED');
  });
});
