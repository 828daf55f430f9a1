/** Ctrl-C of `patchbay run`: the job goes on, unless it was asked to end with it. On an orchestrator whose ranks are played. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { held } from '../../../orchestrator/test/support/fake-cluster.js';
import { Rig, TOKEN } from '../../../orchestrator/test/support/rig.js';
import { installation } from '../../src/installation.js';

const DOCUMENT = { version: 1, model: 'm', runs: [{ inputs: { tokenIds: [[1]] } }] };

describe('an interrupted run', function () {
  this.timeout(30_000);
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start();
    await rig.deploy('m');
  });
  afterEach(() => rig.close());

  /** Runs a job until it runs, presses Ctrl-C, and resolves to what the command said. */
  async function interrupted(jobId: string, ...flags: string[]): Promise<{ status: number; stderr: string }> {
    const next = held(rig.cluster);
    const path = join(rig.home, 'job.json');
    writeFileSync(path, JSON.stringify(DOCUMENT));
    const child = spawn(process.execPath, [installation.bin, 'run', path, '--job-id', jobId, ...flags], {
      env: {
        ...process.env,
        PATCHBAY_HOME: rig.home,
        PATCHBAY_REDIS_URL: rig.redis.url,
        PATCHBAY_HTTP_URL: rig.http,
        PATCHBAY_TOKEN: TOKEN,
        NO_COLOR: '1',
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const said = text(child.stderr);
    (await next()).running();
    await rig.until(jobId, 'running');
    child.kill('SIGINT');
    const [status] = (await once(child, 'exit')) as [number];
    return { status, stderr: await said };
  }

  it('leaves the job running and says how to find it', async () => {
    const { status, stderr } = await interrupted('goes-on');
    assert.equal(status, 130);
    assert.match(stderr, /patchbay result goes-on/);
    assert.equal((await rig.status('goes-on')).state, 'running');
    assert.equal((await rig.status('goes-on')).cancelRequested, undefined);
  });

  it('--cancel-on-interrupt ends the job, too', async () => {
    const { status, stderr } = await interrupted('ends', '--cancel-on-interrupt');
    assert.equal(status, 130);
    assert.match(stderr, /ends is (cancelled|running, to be cancelled)/);
    const { error } = await rig.until('ends', 'cancelled');
    assert.equal(error?.code, 'PB_JOB_CANCELLED');
  });
});
