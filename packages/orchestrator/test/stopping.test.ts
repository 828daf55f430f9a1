/** What ends a job before its gang does: cancel, deadline, a lost lease, a shutdown, a crash. */
import assert from 'node:assert/strict';
import { keys } from '@patchbay/protocol';
import { held } from './support/fake-cluster.js';
import { Rig } from './support/rig.js';

describe('stopping', () => {
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start({ cancelGraceMs: 300, shutdownGraceMs: 200 });
    await rig.deploy('m');
  });
  afterEach(() => rig.close());

  const cancel = (id: string, reason?: string) =>
    rig.ask('POST', `/api/jobs/${id}/cancel`, reason === undefined ? {} : { reason });

  it('cancels a queued job at once', async () => {
    const next = held(rig.cluster);
    const first = await rig.submit('m');
    const job = await next();
    const waiting = await rig.submit('m');
    const { status, body } = await cancel(waiting, 'not wanted');
    assert.equal(status, 200);
    assert.equal(body['state'], 'cancelled');
    assert.equal(body['cancelRequested'], 'not wanted');
    job.done();
    await rig.until(first, 'completed');
    await rig.until(await submitAndAnswer(next), 'completed');
    assert.ok(rig.cluster.starts.every(({ key }) => key.jobId !== waiting));
  });

  async function submitAndAnswer(next: () => Promise<{ done(): void }>): Promise<string> {
    const id = await rig.submit('m');
    (await next()).done();
    return id;
  }

  it('cancels a running job through its gang', async () => {
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    await cancel(id, 'changed my mind');
    const status = await rig.until(id, 'cancelled');
    assert.equal(job.cancelReason, 'changed my mind');
    assert.equal(status.error?.code, 'PB_JOB_CANCELLED');
    assert.match(status.error?.message ?? '', /changed my mind/);
    await rig.until(await submitAndAnswer(next), 'completed');
  });

  it('records the end of a cancelled job whose gang does not answer, and keeps the replica until it does', async () => {
    const next = held(rig.cluster);
    rig.cluster.script.cancel = () => undefined;
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    await cancel(id);
    await rig.until(id, 'cancelled');
    const after = await rig.submit('m');
    await rig.until(after, 'placing');
    assert.equal(rig.cluster.starts.length, 1, 'the gang is still busy');
    job.done();
    (await next()).done();
    await rig.until(after, 'completed');
    assert.equal((await rig.status(id)).state, 'cancelled', 'a late result changes nothing');
  });

  it('cancels a job that waits for a replica', async () => {
    rig.cluster.deployments.set('m', rig.cluster.describe('m', 1, 3));
    rig.cluster.push();
    await untilStatus('restarting');
    const id = await rig.submit('m');
    await rig.until(id, 'placing');
    await cancel(id);
    await rig.until(id, 'cancelled');
    assert.equal(rig.cluster.starts.length, 0);
  });

  async function untilStatus(wanted: string): Promise<void> {
    for (let status = ''; status !== wanted;) {
      const { body } = await rig.ask<{ models: { status: string }[] }>('GET', '/api/models');
      status = body.models[0]?.status ?? '';
    }
  }

  it('heeds a request that came while nobody listened', async () => {
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    (await next()).running();
    await rig.until(id, 'running');
    await rig.client.hset(keys.job(id), 'cancelRequested', 'said to nobody');
    await rig.client.call('CLIENT', 'KILL', 'TYPE', 'pubsub'); // the bus connects again
    const status = await rig.until(id, 'cancelled');
    assert.match(status.error?.message ?? '', /said to nobody/);
  });

  it('stops a job at its deadline, counted from running', async () => {
    const next = held(rig.cluster);
    const id = await rig.submit('m', { limits: { timeoutMs: 150 } });
    const job = await next();
    await rig.until(id, 'placing');
    job.running();
    const status = await rig.until(id, 'failed');
    assert.equal(status.error?.code, 'PB_JOB_TIMEOUT');
    assert.match(status.error?.message ?? '', /150 ms/);
    assert.ok(job.cancelReason !== undefined, 'the gang was told');
    const [, , running, failed] = status.transitions;
    assert.ok(failed!.at - running!.at >= 145);
  });

  it('gives a running job back to the queue at shutdown, and the next orchestrator runs it', async () => {
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    await rig.orchestrator.close();
    assert.match(job.cancelReason ?? '', /shutdown/);
    assert.equal(await rig.client.hget(keys.job(id), 'state'), 'queued');
    await rig.orchestrate();
    const again = await next();
    assert.equal(again.key.attempt, 2);
    again.done();
    await rig.until(id, 'completed');
  });

  it('lets a running job end within the grace of a shutdown', async () => {
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    const closed = rig.orchestrator.close();
    job.done();
    await closed;
    assert.equal(await rig.client.hget(keys.job(id), 'state'), 'completed');
    assert.equal(job.cancelReason, undefined);
  });

  it('goes on after Redis was away', async () => {
    await rig.until(await rig.submit('m'), 'completed');
    await rig.redis.kill();
    await rig.redis.start();
    while ((await rig.ask('GET', '/api/jobs')).status === 503); // it says so until it is connected again
    await rig.until(await rig.submit('m'), 'completed');
  });

  it('shuts down while Redis is away', async () => {
    await rig.until(await rig.submit('m'), 'completed');
    await rig.redis.kill();
    await rig.orchestrator.close();
    await rig.redis.start();
  });

  it('drains: what runs ends, what comes is left to others, and then it has left', async () => {
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    const { drained } = rig.orchestrator;
    let left = false;
    void drained.then(() => (left = true));
    const asked = await rig.ask<{ draining: boolean; running: number }>('POST', '/api/drain');
    assert.deepEqual(asked.body, { draining: true, running: 1 });
    const { body: health } = await rig.ask<{ status: string; parts: { orchestrator: object } }>('GET', '/healthz');
    assert.deepEqual([health.status, health.parts.orchestrator], ['degraded', { draining: true, running: 1 }]);
    await rig.deploy('n'); // a new deployment is not taken up either
    const waiting = [await rig.submit('m'), await rig.submit('n')];
    assert.equal(left, false, 'not before the job has ended');
    job.done();
    await rig.until(id, 'completed');
    await drained;
    assert.equal((await rig.status(id)).attempt, 1, 'it was not given back');
    for (const one of waiting) assert.equal((await rig.status(one)).state, 'queued');
    rig.cluster.script.start = (each) => each.done();
    await rig.orchestrate();
    for (const one of waiting) await rig.until(one, 'completed');
  });

  it('fences off the attempt of an orchestrator that vanished', async function () {
    this.timeout(30_000);
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const first = await next();
    first.running();
    await rig.until(id, 'running');
    await rig.loseLease();
    const second = await next();
    assert.deepEqual([first.key.attempt, second.key.attempt], [1, 2]);
    first.done({ runs: { old: {} } });
    second.done({ runs: { new: {} } });
    await rig.until(id, 'completed');
    const { body } = await rig.ask<{ runs: object; attempt: number }>('GET', `/api/jobs/${id}/result`);
    assert.deepEqual([Object.keys(body.runs), body.attempt], [['new'], 2]);
  });

  it('goes on from no checkpoint that an attempt told of when it was over', async function () {
    this.timeout(30_000);
    const checkpoint = (step: number): object => ({
      type: 'artifact',
      file: `checkpoints/fit/${step}.safetensors`,
      sha256: String(step).repeat(64),
      bytes: 8,
      run: 'fit',
      step,
    });
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const first = await next();
    first.event(checkpoint(4));
    first.running();
    await rig.until(id, 'running');
    await rig.loseLease();
    const second = await next();
    second.running();
    assert.deepEqual([first.resume, second.resume], [{}, { fit: { sha256: '4'.repeat(64), step: 4 } }]);
    first.event(checkpoint(8)); // it still trains, and has heard of nothing
    second.event(checkpoint(6));
    second.failed({ code: 'PB_SANDBOX_FAILED', retryable: true });
    const third = await next();
    assert.deepEqual([third.key.attempt, third.resume], [3, { fit: { sha256: '6'.repeat(64), step: 6 } }]);
    third.done();
    await rig.until(id, 'completed');
    const told = (await rig.events(id)).flatMap((event) => (event.type === 'artifact' ? [event.step] : []));
    assert.deepEqual(told, [4, 6]);
  });
});
