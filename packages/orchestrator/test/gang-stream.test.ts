/** The long stream to a gang: kept open, resent after a break, given up in time, gone round by the gateway. */
import assert from 'node:assert/strict';
import { createServer, type AddressInfo } from 'node:net';
import { status } from '@grpc/grpc-js';
import { jobResult } from '@patchbay/protocol';
import { startProxy } from './support/silent-proxy.js';
import { held } from './support/fake-cluster.js';
import { Rig } from './support/rig.js';

describe('the stream to a gang', () => {
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start({ gangGraceMs: 800 });
  });
  afterEach(() => rig.close());

  it('is one for many jobs', async () => {
    await rig.deploy('m');
    for (let count = 0; count < 3; count++) await rig.until(await rig.submit('m'), 'completed');
    assert.equal(rig.cluster.streamsOpened, 1);
  });

  it('resends the same start after a break', async () => {
    await rig.deploy('m');
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const first = await next();
    first.running();
    await rig.until(id, 'running');
    rig.cluster.breakStreams();
    const second = await next();
    assert.deepEqual(second.key, first.key);
    assert.deepEqual(second.document, first.document);
    assert.equal(second.ticket, first.ticket);
    second.running(); // from memory
    second.done();
    const done = await rig.until(id, 'completed');
    assert.equal(done.attempt, 1);
    assert.equal(done.transitions.filter(({ state }) => state === 'running').length, 1);
  });

  it('resends a cancel after a break, too', async () => {
    await rig.deploy('m');
    const next = held(rig.cluster);
    let cancels = 0;
    rig.cluster.script.cancel = () => (cancels += 1);
    const id = await rig.submit('m');
    (await next()).running();
    await rig.until(id, 'running');
    await rig.ask('POST', `/api/jobs/${id}/cancel`, {});
    await rig.cluster.until(() => cancels === 1, 'the cancel');
    rig.cluster.breakStreams();
    await rig.cluster.until(() => cancels === 2, 'the cancel again');
    await rig.until(id, 'cancelled');
  });

  it('gives the job to another attempt when the gang stays away', async () => {
    await rig.deploy('m');
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    (await next()).running();
    await rig.until(id, 'running');
    rig.cluster.die();
    const queued = await rig.until(id, 'queued');
    assert.equal(queued.attempt, 1);
    await untilReason(id, /PB_GANG_LOST/);
    rig.cluster.epoch = 2;
    rig.cluster.deployments.set('m', rig.cluster.describe('m'));
    await rig.cluster.listen();
    const again = await next();
    assert.deepEqual([again.key.attempt, again.key.epoch], [2, 2]);
    again.done();
    await rig.until(id, 'completed');
  });

  async function untilReason(id: string, reason: RegExp): Promise<void> {
    const end = Date.now() + 10_000;
    while (!(await rig.status(id)).transitions.some((one) => reason.test(one.reason ?? ''))) {
      assert.ok(Date.now() < end, `no step for ${String(reason)}`);
    }
  }

  it('gives it up at once when the cluster tells of a new epoch', async () => {
    await rig.deploy('m');
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const first = await next();
    first.running();
    await rig.until(id, 'running');
    rig.cluster.epoch = 2;
    rig.cluster.deployments.set('m', rig.cluster.describe('m'));
    rig.cluster.push();
    const second = await next();
    assert.deepEqual([second.key.attempt, second.key.epoch], [2, 2]);
    first.done({ runs: { old: {} } }); // of the epoch before: nobody listens
    second.done({ runs: { new: {} } });
    await rig.until(id, 'completed');
    const { body } = await rig.ask<{ runs: object }>('GET', `/api/jobs/${id}/result`);
    assert.deepEqual(Object.keys(body.runs), ['new']);
  });

  it('waits for a new epoch after a refusal, rather than using up the attempts', async () => {
    await rig.deploy('m');
    await rig.until(await rig.submit('m'), 'completed');
    rig.cluster.breakStreams(status.UNAUTHENTICATED, 'another epoch');
    const id = await rig.submit('m');
    await rig.until(id, 'placing');
    rig.cluster.epoch = 2;
    rig.cluster.deployments.set('m', rig.cluster.describe('m'));
    rig.cluster.push();
    const done = await rig.until(id, 'completed');
    assert.ok(done.attempt <= 2);
    assert.equal(rig.cluster.starts.at(-1)!.key.epoch, 2);
  });

  it('is left for the gateway where the supervisor cannot be dialled', async () => {
    rig.cluster.gangAddress = await unusedAddress();
    await rig.deploy('m');
    const id = await rig.submit('m');
    await rig.until(id, 'completed');
    const { body } = await rig.ask('GET', `/api/jobs/${id}/result`);
    assert.equal(jobResult.parse(body).controlRoute, 'gateway');
    assert.equal(rig.cluster.streamsOpened, 0);
    assert.equal(rig.cluster.viaCalls, 1);
  });

  it('is given up when it falls silent: pings find that out, and the job goes another way', async function () {
    this.timeout(60_000); // twice the pings of a channel, on a busy machine
    const proxy = await startProxy(rig.cluster.port);
    try {
      rig.cluster.gangAddress = proxy.address;
      await rig.deploy('m');
      const next = held(rig.cluster);
      const id = await rig.submit('m');
      (await next()).running();
      await rig.until(id, 'running');
      proxy.silence();
      (await next()).done();
      const { attempt } = await rig.until(id, 'completed');
      const { body } = await rig.ask('GET', `/api/jobs/${id}/result`);
      assert.deepEqual([attempt, jobResult.parse(body).controlRoute], [2, 'gateway']);
    } finally {
      proxy.close();
    }
  });

  it('carries a cancel through the gateway as well', async () => {
    rig.cluster.gangAddress = await unusedAddress();
    await rig.deploy('m');
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    await rig.ask('POST', `/api/jobs/${id}/cancel`, { reason: 'round the back' });
    await rig.until(id, 'cancelled');
    assert.equal(job.cancelReason, 'round the back');
  });

  it('goes on while the gateway is away', async () => {
    await rig.deploy('m');
    rig.cluster.breakWatch();
    await rig.until(await rig.submit('m'), 'completed');
  });
});

async function unusedAddress(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}
