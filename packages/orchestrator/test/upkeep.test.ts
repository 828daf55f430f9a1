/** What keeps jobs from being lost, from waiting for ever and from filling the store. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { QUEUE_PREFIX, beginCall, keys, parseJobDocument, queueName, submission, submitCall } from '@patchbay/protocol';
import { Queue, Worker } from 'bullmq';
import { LocalStore } from '../src/artifacts/local-store.js';
import { JobRecords } from '../src/jobs/job-record.js';
import { Scripts } from '../src/scripts.js';
import { Retention } from '../src/jobs/upkeep/retention.js';
import { SWEEP_MS } from '../src/jobs/upkeep/sweep.js';
import { held } from './support/fake-cluster.js';
import { Rig } from './support/rig.js';

describe('upkeep', function () {
  this.timeout(30_000);
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start({ cancelGraceMs: 300 });
    await rig.deploy('m');
  });
  afterEach(() => rig.close());

  /** A record of some seconds ago, without an entry: its submitter died in between. */
  async function recordOnly(jobId: string, model = 'm'): Promise<void> {
    const document = parseJobDocument({ version: 1, model, runs: [{ inputs: { tokenIds: [[1]] } }] });
    await rig.client.eval(...submitCall(submission(document, jobId, { now: Date.now() - 60_000 })));
  }

  it('runs a job whose submission broke off before its queue entry', async () => {
    await recordOnly('orphan');
    await rig.until('orphan', 'completed');
  });

  it('runs a job whose queue entry was lost while it ran', async () => {
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const first = await next();
    first.running();
    await rig.until(id, 'running');
    for (const key of await rig.client.keys(`${QUEUE_PREFIX}:${queueName('m')}:*`))
      if (key.includes(id) || key.endsWith(':active')) await rig.client.del(key);
    await rig.client.zadd(keys.open, Date.now() - 60_000, id);
    const second = await next();
    assert.deepEqual([first.key.attempt, second.key.attempt], [1, 2]);
    second.done();
    await rig.until(id, 'completed');
  });

  for (const [lost, end] of [[5, 'completed'], [6, 'failed']] as const) {
    it(`a job under which ${lost} consumers vanished is ${end}`, async () => {
      await recordOnly('culprit');
      for (let begun = 0; begun <= lost; begun++)
        await rig.client.eval(...beginCall('culprit', Date.now() - 60_000)); // and then nothing more is heard
      const { attempt, error } = await rig.until('culprit', end);
      assert.equal(error?.code, end === 'failed' ? 'PB_JOB_STALLED' : undefined);
      assert.equal(attempt, lost + 2);
      assert.equal(rig.cluster.starts.length, end === 'failed' ? 0 : 1, 'it does not reach another gang');
    });
  } // prettier-ignore

  it('fails a job whose deployment is gone', async () => {
    await rig.client.hset(keys.deployments, 'gone', '{}');
    await recordOnly('late', 'gone');
    await rig.client.hdel(keys.deployments, 'gone');
    const { error } = await rig.until('late', 'failed');
    assert.equal(error?.code, 'PB_MODEL_NOT_FOUND');
  });

  it('fails a job whose deployment went with the lease of its consumer, and not before', async () => {
    await rig.client.hset(keys.deployments, 'gone', '{}');
    await recordOnly('lost', 'gone');
    const options = { connection: rig.client, prefix: QUEUE_PREFIX };
    const queue = new Queue(queueName('gone'), options);
    await queue.add('job', { jobId: 'lost' }, { jobId: 'lost' });
    const consumer = new Worker(queueName('gone'), null, options);
    await consumer.getNextJob('a consumer that is stopped');
    await rig.client.eval(...beginCall('lost', Date.now() - 60_000));
    await rig.client.hdel(keys.deployments, 'gone');
    await sleep(2.5 * SWEEP_MS);
    assert.equal(await rig.client.hget(keys.job('lost'), 'state'), 'placing', 'somebody holds it');
    await rig.client.del(`${queue.toKey('lost')}:lock`);
    assert.equal((await rig.until('lost', 'failed')).error?.code, 'PB_MODEL_NOT_FOUND');
    while ((await queue.getActiveCount()) > 0) await sleep(10);
    await consumer.close(true);
    await queue.close();
  });

  it('expires a job that waits too long behind another, and one that waits for a replica', async () => {
    const next = held(rig.cluster);
    const first = await rig.submit('m');
    const job = await next();
    const waiting = await rig.submit('m', { limits: { startTimeoutMs: 100 } });
    assert.equal((await rig.until(waiting, 'expired')).error?.code, 'PB_JOB_EXPIRED');
    job.done();
    await rig.until(first, 'completed');
    rig.cluster.deployments.set('m', rig.cluster.describe('m', 1, 3));
    rig.cluster.push();
    const placing = await rig.submit('m', { limits: { startTimeoutMs: 300 } });
    assert.equal((await rig.until(placing, 'expired')).error?.code, 'PB_JOB_EXPIRED');
    assert.equal(rig.cluster.starts.length, 1, 'neither of them reached the gang');
  });

  it("does not run a submitter's jobs beside each other when he may have one at a time", async () => {
    await rig.deploy('two', { replicas: 2 });
    await rig.client.hset(keys.submitters, 'ann', JSON.stringify({ maxRunning: 1 }));
    const next = held(rig.cluster);
    const mine = [];
    for (let index = 0; index < 3; index++) mine.push(await rig.submit('two', { labels: { submitter: 'ann' } }));
    const other = await rig.submit('two', { labels: { submitter: 'bob' } });
    const running = [await next(), await next()];
    assert.deepEqual(new Set(running.map(({ key }) => key.jobId)), new Set([mine[0], other]));
    for (const job of running) job.done();
    (await next()).done();
    (await next()).done();
    for (const id of mine) await rig.until(id, 'completed');
  });

  it('takes an event of an attempt once, none after its end, and says when there are too many', async () => {
    rig.cluster.script.start = (job) => {
      job.running();
      for (let index = 0; index < 3; index++) job.event({ type: 'log', text: `line ${index}` });
      job.done();
      job.event({ type: 'log', text: 'too late' });
    };
    const id = await rig.submit('m');
    await rig.until(id, 'completed');
    await rig.until(await rig.submit('m'), 'completed');
    const kinds = (await rig.events(id)).map((event) => (event.type === 'log' ? event.text : event.type));
    assert.deepEqual(kinds, ['state', 'state', 'state', 'line 0', 'line 1', 'line 2', 'state']);
  });

  it('knows a submitter by the API key, and what the file grants him', async () => {
    const path = join(rig.home, 'submitters.toml');
    const keySha256 = createHash('sha256').update('key of ann').digest('hex');
    writeFileSync(path, `[ann]\nkeySha256 = "${keySha256}"\nmaxPriority = 0\n["*"]\nmaxQueued = 1000\n`);
    await rig.orchestrate({ submitters: path });
    const submit = (key: string, priority: number): Promise<Response> =>
      rig.fetch('/api/jobs', {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ version: 1, model: 'm', priority, runs: [{ inputs: { tokenIds: [[1]] } }] }),
      });
    const { jobId } = (await (await submit('key of ann', 0)).json()) as { jobId: string };
    assert.equal((await rig.until(jobId, 'completed')).submitter, 'ann');
    // what the key starts again counts as the key's, too
    const authorization = 'Bearer key of ann';
    const retried = await rig.fetch(`/api/jobs/${jobId}/retry`, { method: 'POST', headers: { authorization } });
    const again = (await retried.json()) as { jobId: string };
    assert.equal((await rig.until(again.jobId, 'completed')).submitter, 'ann');
    const refused = await submit('key of ann', 1);
    assert.deepEqual([refused.status, ((await refused.json()) as { code: string }).code], [403, 'PB_PRIORITY_REFUSED']);
    assert.equal((await submit('another key', 0)).status, 401);
    writeFileSync(path, '[ann]\nwieght = 2\n');
    await assert.rejects(rig.orchestrate({ submitters: path }), /wieght/);
  });

  it('deletes a job that has ended, over HTTP', async () => {
    const id = await rig.submit('m');
    await rig.until(id, 'completed');
    assert.equal((await rig.fetch(`/api/jobs/${id}`, { method: 'DELETE' })).status, 204);
    assert.equal((await rig.ask('GET', `/api/jobs/${id}`)).status, 404);
    const next = held(rig.cluster);
    const running = await rig.submit('m');
    const job = await next();
    assert.equal((await rig.ask('DELETE', `/api/jobs/${running}`)).status, 409);
    job.done();
  });

  it('keeps to its budget and time to live, and artifacts only as long as a job refers to them', async () => {
    const store = new LocalStore(join(rig.home, 'artifacts'), 1 << 20);
    const limits = { jobTtlMs: 3_600_000, jobBudgetBytes: 2 ** 30, artifactTtlMs: 1_000 };
    const records = new JobRecords(rig.client, new Scripts(rig.client));
    const retention = new Retention(rig.client, records, store, limits);
    const put = async (text: string): Promise<string> => {
      const sha256 = createHash('sha256').update(text).digest('hex');
      await store.put(sha256, Readable.from([Buffer.from(text)]));
      utimesSync(join(rig.home, 'artifacts', sha256.slice(0, 2), sha256), new Date(0), new Date(0));
      return sha256;
    };
    const [kept, orphan] = [await put('wanted'), await put('nobody wants it')];
    rig.cluster.script.start = (job) => {
      job.running();
      job.done({ runs: {}, files: { 'outputs.safetensors': { sha256: kept, bytes: 6 } } });
    };
    const ids = [await rig.submit('m'), await rig.submit('m')];
    for (const id of ids) await rig.until(id, 'completed');
    const promised = await put('somebody asked for it');
    assert.equal((await rig.fetch(`/api/artifacts/${promised}`, { method: 'HEAD' })).status, 200);
    assert.equal((await rig.fetch(`/api/artifacts/${orphan}`)).status, 200, 'to read it is no reason to keep it');
    assert.equal(await retention.collectArtifacts(), 1);
    await assert.rejects(store.head(orphan));
    assert.equal((await store.head(promised)).bytes, 21, 'its uploader was told that it need not be sent');
    assert.equal(await retention.collectArtifacts(Date.now() + 2 * limits.artifactTtlMs), 1, 'but for no longer');
    assert.equal((await store.head(kept)).bytes, 6);
    await new Retention(rig.client, records, store, { ...limits, jobBudgetBytes: 1 }).keepBudget();
    assert.deepEqual(await rig.client.zrange(keys.jobs, '0', '-1'), []);
    assert.equal(await rig.client.hget(keys.settings, 'storedBytes'), '0');
    assert.equal(await retention.collectArtifacts(), 1, 'nobody refers to it any more');
    await rig.until(await rig.submit('m'), 'completed');
    await retention.forgetOld(Date.now() + 2 * limits.jobTtlMs);
    assert.deepEqual(await rig.client.zrange(keys.finished, '0', '-1'), []);
  });
});
