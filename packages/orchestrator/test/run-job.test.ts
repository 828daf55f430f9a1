/** A job from the queue to a gang and back: states, events, results, retries, fencing. */
import assert from 'node:assert/strict';
import { keys, jobResult } from '@patchbay/protocol';
import { held } from './support/fake-cluster.js';
import { Rig } from './support/rig.js';

describe('a job', () => {
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start();
    await rig.deploy('m');
  });
  afterEach(() => rig.close());

  it('goes to the gang and its result comes back', async () => {
    rig.cluster.script.start = (job) => {
      job.running();
      job.done({ runs: { 'run-0': { topK: [] } }, timings: { forwardMs: 3 }, saveCtx: { note: 'kept' } });
    };
    const id = await rig.submit('m', { labels: { experiment: 'one' } });
    const status = await rig.until(id, 'completed');
    assert.deepEqual(
      status.transitions.map(({ state, attempt }) => [state, attempt]),
      [
        ['queued', 0],
        ['placing', 1],
        ['running', 1],
        ['completed', 1],
      ],
    );
    const { body } = await rig.ask('GET', `/api/jobs/${id}/result`);
    const result = jobResult.parse(body);
    assert.equal(result.state, 'completed');
    assert.equal(result.attempt, 1);
    assert.equal(result.model, 'm');
    assert.equal(result.controlRoute, 'direct');
    assert.deepEqual(result.saveCtx, { note: 'kept' });
    for (const phase of ['queueMs', 'placeMs', 'totalMs', 'transferMs', 'forwardMs']) {
      assert.ok((result.timings[phase] ?? -1) >= 0, `${phase} is told`);
    }
  });

  it('reaches the gang with its epoch, a deadline and a ticket', async () => {
    const id = await rig.submit('m', { limits: { timeoutMs: 30_000 } });
    await rig.until(id, 'completed');
    const start = rig.cluster.starts[0]!;
    assert.deepEqual({ ...start.key }, { jobId: id, attempt: 1, epoch: 1 });
    assert.equal(start.document.model, 'm');
    assert.equal(start.artifactUrl, rig.http);
    assert.ok(start.deadlineUnixMs > Date.now() && start.deadlineUnixMs < Date.now() + 60_000);
    assert.deepEqual(
      rig.cluster.tokens.find(({ call }) => call === 'execute')?.authorization,
      'Bearer gang-1',
      'the gang is asked with its own token',
    );
    assert.equal((await rig.client.hget(keys.deployments, 'm'))!.includes('gang-1'), false, 'which is stored nowhere');
  });

  it('keeps the order of what the gang reports', async () => {
    const texts = Array.from({ length: 600 }, (_, index) => `line ${index}`);
    rig.cluster.script.start = (job) => {
      job.running();
      for (const text of texts) job.event({ type: 'log', text });
      job.done();
    };
    const id = await rig.submit('m');
    await rig.until(id, 'completed');
    const events = await rig.events(id);
    assert.deepEqual(
      events.map((event) => (event.type === 'log' ? event.text : event.type === 'state' ? event.state : event.type)),
      ['queued', 'placing', 'running', ...texts, 'completed'],
    );
    assert.ok(events.every(({ attempt }, index) => attempt === (index === 0 ? 0 : 1)));
  });

  it('survives an event that is none', async () => {
    rig.cluster.script.start = (job) => {
      job.running();
      job.event({ type: 'gossip' });
      job.done();
    };
    const id = await rig.submit('m');
    await rig.until(id, 'completed');
    assert.deepEqual(
      (await rig.events(id)).map(({ type }) => type),
      ['state', 'state', 'state', 'state'],
    );
  });

  it('fails at once by an error of its author', async () => {
    rig.cluster.script.start = (job) => job.failed({ code: 'PB_EDIT_FAILED', message: 'raised', path: 'hooks[0]' });
    const id = await rig.submit('m');
    const status = await rig.until(id, 'failed');
    assert.equal(status.attempt, 1);
    assert.equal(rig.cluster.starts.length, 1, 'not tried again');
    assert.equal(status.error?.code, 'PB_EDIT_FAILED');
    assert.equal(status.error?.path, 'hooks[0]');
    assert.equal(status.error?.jobId, id);
    const { body } = await rig.ask('GET', `/api/jobs/${id}/result`);
    assert.equal(jobResult.parse(body).error?.message, 'raised');
  });

  it('fails when the gang answers with something that is no result', async () => {
    rig.cluster.script.start = (job) => job.done({ nothing: true });
    const id = await rig.submit('m');
    const status = await rig.until(id, 'failed');
    assert.equal(status.error?.code, 'PB_INTERNAL');
  });

  it('is tried again after its gang was lost', async () => {
    rig.cluster.script.start = (job) => {
      job.running();
      if (job.key.attempt === 1) job.failed({ code: 'PB_GANG_LOST', retryable: true });
      else job.done();
    };
    const id = await rig.submit('m');
    const status = await rig.until(id, 'completed');
    assert.deepEqual(
      status.transitions.map(({ state, attempt }) => `${state} ${attempt}`),
      ['queued 0', 'placing 1', 'running 1', 'queued 1', 'placing 2', 'running 2', 'completed 2'],
    );
    assert.match(status.transitions[3]!.reason ?? '', /PB_GANG_LOST/);
  });

  it('is not given to a third gang after it lost two', async () => {
    rig.cluster.script.start = (job) => job.failed({ code: 'PB_GANG_LOST', retryable: true });
    const id = await rig.submit('m');
    const status = await rig.until(id, 'failed');
    assert.equal(status.error?.code, 'PB_JOB_STALLED');
    assert.equal(rig.cluster.starts.length, 2);
  });

  it('fails for good when no retry helps', async () => {
    rig.cluster.script.start = (job) => job.failed({ code: 'PB_SANDBOX_FAILED', retryable: true });
    const id = await rig.submit('m');
    const status = await rig.until(id, 'failed');
    assert.equal(status.error?.code, 'PB_SANDBOX_FAILED');
    assert.equal(status.attempt, 3);
  });

  it('writes nothing once a newer attempt owns it', async () => {
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    await rig.client.hset(keys.job(id), 'attempt', 7);
    job.done();
    const after = await rig.submit('m');
    (await next()).done();
    await rig.until(after, 'completed'); // so the first one has been settled
    const status = await rig.status(id);
    assert.equal(status.state, 'running');
    assert.equal(await rig.client.hexists(keys.job(id), 'result'), 0);
  });

  it('that is over already is left alone', async () => {
    const id = await rig.submit('m', { jobId: 'again' });
    await rig.until(id, 'completed');
    await rig.submit('m', { jobId: 'again' }); // its queue entry is new, its record is not
    await rig.until(await rig.submit('m'), 'completed');
    assert.deepEqual(
      rig.cluster.starts.map(({ key }) => key.jobId === 'again'),
      [true, false],
    );
    assert.equal((await rig.status(id)).attempt, 1);
  });

  it('runs beside others, as many as there are replicas', async () => {
    await rig.deploy('two', { replicas: 2 });
    const next = held(rig.cluster);
    const ids = [await rig.submit('two'), await rig.submit('two'), await rig.submit('two')];
    const first = [await next(), await next()];
    assert.equal(rig.cluster.starts.length, 2, 'the third waits');
    assert.equal((await rig.status(ids[2]!)).state, 'queued');
    for (const job of first) job.done();
    (await next()).done();
    for (const id of ids) await rig.until(id, 'completed');
  });
});
