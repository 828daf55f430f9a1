/** Wanted against actual deployments: deploy, undeploy, restarts on both sides, jobs that wait. */
import assert from 'node:assert/strict';
import { keys, type Deployment } from '@patchbay/protocol';
import { held } from './support/fake-cluster.js';
import { Rig } from './support/rig.js';

const RESTARTING = 3;
const FAILED = 4;

describe('deployments', () => {
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start({ placeTimeoutMs: 300 });
  });
  afterEach(() => rig.close());

  const models = async (): Promise<Deployment[]> =>
    (await rig.ask<{ models: Deployment[] }>('GET', '/api/models')).body.models;
  async function untilStatus(name: string, wanted: string): Promise<Deployment> {
    const end = Date.now() + 10_000;
    for (;;) {
      const found = (await models()).find(({ spec }) => spec.name === name);
      if (found?.status === wanted) return found;
      assert.ok(Date.now() < end, `${name} is ${found?.status ?? 'not there'}, not ${wanted}`);
    }
  }

  it('tell of their progress and end ready', async () => {
    const body = JSON.stringify({ name: 'm', model: '/models/m', tp: 2 });
    const response = await rig.fetch('/api/models', {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
    });
    assert.match(response.headers.get('content-type') ?? '', /ndjson/);
    const lines = (await response.text()).trim().split('\n');
    const [progress, ready] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(progress, { type: 'progress', phase: 'load', message: 'loading' });
    assert.equal(ready!['type'], 'ready');
    const deployment = ready!['deployment'] as Deployment;
    assert.equal(deployment.status, 'ready');
    assert.deepEqual(deployment.spec, {
      name: 'm',
      model: '/models/m',
      tp: 2,
      pp: 1,
      dp: 1,
      fsdp: false,
      expertParallel: false,
      dtype: 'float32',
      replicas: 1,
      cpusPerRank: 1,
      placement: 'pack',
    });
    assert.equal(rig.cluster.deploys[0]!.tp, 2);
    assert.ok(!JSON.stringify(deployment).includes('gang-1'), 'no token leaves');
  });

  it('are made once for the same specification', async () => {
    await rig.deploy('m');
    assert.equal((await rig.deploy('m'))['type'], 'ready');
    assert.equal(rig.cluster.deploys.length, 1);
    const other = await rig.deploy('m', { tp: 4 });
    assert.equal((other['error'] as { code: string }).code, 'PB_MODEL_EXISTS');
  });

  it('that the cluster refuses leave nothing behind', async () => {
    rig.cluster.script.deploy = async function* () {
      const told = { code: 'PB_MESH_UNSUPPORTED', message: 'no plan', retryable: false };
      yield { event: { $case: 'failedJson', value: JSON.stringify(told) } };
    };
    const last = await rig.deploy('m');
    assert.equal(last['type'], 'failed');
    assert.equal((last['error'] as { code: string }).code, 'PB_MESH_UNSUPPORTED');
    assert.deepEqual(await models(), []);
    assert.equal(await rig.client.hlen(keys.deployments), 0);
    const { body } = await rig.ask('POST', '/api/jobs', {
      version: 1,
      model: 'm',
      runs: [{ inputs: { text: ['x'] } }],
    });
    assert.equal(body['code'], 'PB_MODEL_NOT_FOUND');
  });

  it('are found again when the connection breaks on the way', async () => {
    const { script } = rig.cluster;
    const whole = script.deploy.bind(script);
    script.deploy = async function* () {
      script.deploy = whole;
      yield { event: { $case: 'progressJson', value: JSON.stringify({ phase: 'load', message: 'loading' }) } };
      throw new Error('broken by the test');
    };
    assert.equal((await rig.deploy('m'))['type'], 'ready');
    assert.equal(rig.cluster.deploys.length, 2);
  });

  it('are refused when the connection breaks again and again', async () => {
    rig.cluster.script.deploy = async function* () {
      yield* [];
      throw new Error('broken by the test');
    };
    const { error } = await rig.deploy('m');
    assert.equal((error as { code: string }).code, 'PB_GATEWAY_UNAVAILABLE');
    assert.equal(rig.cluster.deploys.length, 3);
  });

  it('are refused at once while the gateway is away', async () => {
    rig.cluster.die();
    const last = await rig.deploy('m');
    assert.equal((last['error'] as { code: string }).code, 'PB_GATEWAY_UNAVAILABLE');
    assert.deepEqual(await models(), []);
  });

  it('that are taken away end the jobs that wait, and refuse new ones', async () => {
    await rig.deploy('m');
    const next = held(rig.cluster);
    const running = await rig.submit('m');
    (await next()).running();
    await rig.until(running, 'running');
    const waiting = await rig.submit('m');
    const { body } = await rig.ask('DELETE', '/api/models/m');
    assert.deepEqual(body, { existed: true });
    assert.deepEqual(rig.cluster.undeploys, ['m']);
    for (const id of [waiting, running])
      assert.equal((await rig.until(id, 'failed')).error?.code, 'PB_MODEL_NOT_FOUND');
    assert.deepEqual(await models(), []);
    const refused = await rig.ask('POST', '/api/jobs', { version: 1, model: 'm', runs: [{ inputs: { text: ['x'] } }] });
    assert.equal(refused.status, 404);
    assert.deepEqual((await rig.ask('DELETE', '/api/models/m')).body, { existed: false });
  });

  it('are found again by a new orchestrator', async () => {
    await rig.deploy('m');
    await rig.orchestrator.close();
    await rig.orchestrate();
    await rig.until(await rig.submit('m'), 'completed');
    assert.equal(rig.cluster.deploys.length, 1);
  });

  it('are found again after the gateway was away', async () => {
    await rig.deploy('m');
    rig.cluster.die();
    rig.cluster.epoch = 2;
    rig.cluster.deployments.set('m', rig.cluster.describe('m'));
    await rig.cluster.listen();
    await rig.until(await rig.submit('m'), 'completed');
    assert.equal(rig.cluster.deploys.length, 1);
  });

  it('that the cluster lost are deployed again, and their jobs wait', async () => {
    await rig.deploy('m');
    rig.cluster.die();
    rig.cluster.deployments.clear();
    rig.cluster.epoch = 2;
    const id = await rig.submit('m');
    await rig.cluster.listen();
    await rig.until(id, 'completed');
    assert.equal(rig.cluster.deploys.length, 2);
    assert.equal(rig.cluster.starts[0]!.key.epoch, 2);
  });

  it('whose gateway goes away before its first word are wanted all the same, and their jobs wait', async () => {
    const works = rig.cluster.script.deploy.bind(rig.cluster.script);
    rig.cluster.script.deploy = async function* () {
      yield await new Promise<never>(() => undefined);
    };
    const asked = rig.deploy('m');
    await rig.cluster.until(() => rig.cluster.deploys.length === 1, 'the deploy');
    const id = await rig.submit('m');
    rig.cluster.die();
    rig.cluster.script.deploy = works;
    assert.equal(((await asked)['error'] as { code: string }).code, 'PB_GATEWAY_UNAVAILABLE');
    await rig.cluster.listen();
    await rig.until(id, 'completed');
  });

  it('that cannot be restored by no fault of their own are tried again, and their jobs wait', async () => {
    await rig.deploy('m');
    const works = rig.cluster.script.deploy.bind(rig.cluster.script);
    rig.cluster.script.deploy = async function* () {
      rig.cluster.script.deploy = works;
      const told = { code: 'PB_INTERNAL', message: 'an actor died', retryable: true };
      yield { event: { $case: 'failedJson', value: JSON.stringify(told) } };
    };
    rig.cluster.die();
    rig.cluster.deployments.clear();
    rig.cluster.epoch = 2;
    const id = await rig.submit('m');
    await rig.cluster.listen();
    await rig.until(id, 'completed');
    assert.equal(rig.cluster.deploys.length, 3);
  });

  it('that a gateway has not found yet are left running', async () => {
    await rig.deploy('m');
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    rig.cluster.deployments.clear();
    rig.cluster.push(); // as a gateway says that has just started
    await rig.cluster.until(() => rig.cluster.deploys.length === 2, 'the second deploy, which finds the first');
    await untilStatus('m', 'ready');
    job.done();
    assert.equal((await rig.until(id, 'completed')).attempt, 1);
    assert.equal(rig.cluster.streamsOpened, 1);
  });

  it('hold their jobs while they restart', async () => {
    await rig.deploy('m');
    rig.cluster.deployments.set('m', rig.cluster.describe('m', 1, RESTARTING));
    rig.cluster.push();
    await untilStatus('m', 'restarting');
    const id = await rig.submit('m', { limits: { timeoutMs: 10_000 } });
    await rig.until(id, 'placing');
    rig.cluster.epoch = 2;
    rig.cluster.deployments.set('m', rig.cluster.describe('m'));
    rig.cluster.push();
    await rig.until(id, 'completed');
  });

  it('that stay away for too long end their jobs', async () => {
    await rig.deploy('m');
    rig.cluster.deployments.set('m', rig.cluster.describe('m', 1, RESTARTING));
    rig.cluster.push();
    await untilStatus('m', 'restarting');
    const status = await rig.until(await rig.submit('m', { limits: { timeoutMs: 100 } }), 'failed');
    assert.equal(status.error?.code, 'PB_MODEL_NOT_READY');
    assert.equal(status.attempt, 1);
  });

  it('that failed refuse their jobs at once, with the reason', async () => {
    await rig.deploy('m');
    const reason = JSON.stringify({ code: 'PB_MODEL_LOAD_FAILED', message: 'the disk is gone', retryable: false });
    rig.cluster.deployments.set('m', rig.cluster.describe('m', 1, FAILED, reason));
    rig.cluster.push();
    await untilStatus('m', 'failed');
    const status = await rig.until(await rig.submit('m'), 'failed');
    assert.equal(status.error?.code, 'PB_MODEL_NOT_READY');
    assert.match(status.error?.message ?? '', /the disk is gone/);
    assert.equal(status.attempt, 1);
  });

  it('have their documents checked by a gang', async () => {
    await rig.deploy('m');
    const document = { version: 1, model: 'm', runs: [{ inputs: { text: ['x'] } }] };
    rig.cluster.script.validate = () => ({ warnings: ['this hook matches 3 modules'] });
    assert.deepEqual((await rig.ask('POST', '/api/validate', document)).body, {
      warnings: ['this hook matches 3 modules'],
    });
    rig.cluster.script.validate = () => ({ code: 'PB_HOOK_MODULE_NOT_FOUND', message: 'none', retryable: false });
    const refused = await rig.ask('POST', '/api/validate', document);
    assert.deepEqual([refused.status, refused.body['code']], [404, 'PB_HOOK_MODULE_NOT_FOUND']);
    const unknown = await rig.ask('POST', '/api/validate', { ...document, model: 'mm' });
    assert.deepEqual([unknown.status, unknown.body['code']], [404, 'PB_MODEL_NOT_FOUND']);
    assert.match(String(unknown.body['hint']), /"m"/);
  });
});
