/**
 * One deployment over two hosts: the demo's jobs come out bit for bit as on one host; a host that dies, is cut off or is slow
 * costs time and nothing else; one that joins is used. `PATCHBAY_MULTI_NODE=all` adds what takes longer (npm run multi-node).
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Deployment, StackInfo } from '@patchbay/protocol';
import type { JobResult, Patchbay } from '@patchbay/sdk';
import { editShardedModule } from '../../examples/01-edit.js';
import { flipAnswer } from '../../examples/02-patch.js';
import { causalTrace } from '../../examples/03-causal-trace.js';
import { Cluster, TINY_FACTS, clientOf, until, type Node } from './support/cluster.js';
import { whyNoNetwork, type Host } from './support/network.js';

const LAYERS = 4;
/** Ray itself calls a node that was cut off dead after more than this. */
const RAY_NOTICES_MS = 30_000;
const LATE_MS = 30;
const whole = process.env['PATCHBAY_MULTI_NODE'] === 'all';

/** Every byte of the result files; what tells of time and place is not in them. */
async function bytesOf(result: JobResult): Promise<Map<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), 'pb-bytes-'));
  try {
    await result.download(folder);
    const files = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));
    return new Map(files.map((name) => [name, readFileSync(join(folder, name)).toString('base64')]));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const nodesOf = ({ replicas }: Deployment): string[] => replicas.flatMap(({ ranks }) => ranks.map(({ node }) => node));

describe('one deployment over several hosts', function () {
  this.timeout(180_000);
  let cluster: Cluster;
  let head: Host;
  let second: Node;
  let info: StackInfo;
  let pb: Patchbay;

  before(async function () {
    const reason = whyNoNetwork();
    if (reason !== undefined) {
      process.stdout.write(`  SKIPPED: no hosts for tests over several nodes: ${reason}\n`);
      return this.skip();
    }
    cluster = new Cluster();
    head = cluster.host('a');
    await cluster.join(head);
    second = await cluster.join(cluster.host('b'), head);
    info = await cluster.up(head);
    pb = clientOf(info);
  });

  after(async () => {
    await pb?.close();
    await cluster?.close();
  });

  const ready = (name: string): Promise<Deployment> =>
    until(
      `${name} ready`,
      async () => {
        const found = await pb.models.get(name);
        return found.status === 'ready' ? found : undefined;
      },
      120_000,
    );

  for (const mesh of whole ? [{ tp: 2 }, { pp: 2 }] : [{ tp: 2 }]) {
    const kind = Object.keys(mesh)[0]!;
    it(`${kind} 2: the demo's jobs are equal to those of one host, bit for bit`, async () => {
      const [one, two] = [`${kind}-one`, `${kind}-two`];
      const alone = await pb.models.deploy({ name: one, model: TINY_FACTS, ...mesh, placement: 'strict-pack' });
      const apart = await pb.models.deploy({ name: two, model: TINY_FACTS, ...mesh, placement: 'strict-spread' });
      assert.equal(new Set(nodesOf(alone)).size, 1);
      assert.equal(new Set(nodesOf(apart)).size, 2);
      for (const job of [
        editShardedModule,
        flipAnswer,
        async (client: Patchbay, model: string) => (await causalTrace(client, model, LAYERS)).result,
      ]) {
        const [here, there] = [await bytesOf(await job(pb, one)), await bytesOf(await job(pb, two))];
        assert.ok(here.size > 0);
        assert.deepEqual([...there], [...here]);
      }
      await pb.models.undeploy(one);
      if (kind !== 'tp') await pb.models.undeploy(two);
    });
  }

  it('a host that dies costs its gang; it comes back when the host does, with the same numbers', async () => {
    const before = await bytesOf(await editShardedModule(pb, 'tp-two'));
    second.kill();
    const lost = Date.now();
    await until(
      'the loss',
      async () => ((await pb.models.get('tp-two')).status !== 'ready' ? true : undefined),
      30_000,
    );
    process.stdout.write(`      lost after ${Date.now() - lost} ms\n`);
    const waiting = editShardedModule(pb, 'tp-two'); // accepted while there is no gang
    second = await cluster.join(second.host, head);
    const back = Date.now();
    assert.deepEqual([...(await bytesOf(await waiting))], [...before]);
    process.stdout.write(`      the waiting job was done ${Date.now() - back} ms after the host was back\n`);
    assert.equal(new Set(nodesOf(await ready('tp-two'))).size, 2);
  });

  it('whatever was removed is off the cluster when the stack goes down', async () => {
    assert.ok(cluster.actors(second.host).length > 0);
    await pb.close();
    await cluster.down();
    await until(
      'no actor of ours',
      () => ([head, second.host].flatMap((host) => cluster.actors(host)).length === 0 ? true : undefined),
      20_000,
    );
    info = await cluster.up(head);
    pb = clientOf(info);
  });

  if (!whole) return;

  it('a cut link: the gang is rebuilt on hosts that answer, long before Ray notices', async () => {
    await pb.models.deploy({ name: 'moves', model: TINY_FACTS, tp: 2, placement: 'spread' });
    const before = await bytesOf(await editShardedModule(pb, 'moves'));
    second.host.link('down');
    const cut = Date.now();
    const running = editShardedModule(pb, 'moves');
    await until(
      'the loss',
      async () => ((await pb.models.get('moves')).replicas[0]!.epoch > 1 ? true : undefined),
      RAY_NOTICES_MS,
    );
    process.stdout.write(`      lost ${Date.now() - cut} ms after the cut\n`);
    const after = await running;
    process.stdout.write(`      done ${Date.now() - cut} ms after it, with the load of the model\n`);
    assert.deepEqual([...(await bytesOf(after))], [...before]);
    second.host.link('up');
    assert.equal(new Set(nodesOf(await ready('moves'))).size, 1);
    await pb.models.undeploy('moves');
  });

  it('a slow link makes jobs slow, not wrong, and costs no gang', async () => {
    second.kill();
    second = await cluster.join(cluster.host('c'), head);
    await pb.models.deploy({ name: 'slow', model: TINY_FACTS, tp: 2, placement: 'strict-spread' });
    const before = await bytesOf(await editShardedModule(pb, 'slow'));
    const { epoch } = (await pb.models.get('slow')).replicas[0]!; // Ray may have begun twice with the supervisor
    const asBefore = await second.host.slow(LATE_MS);
    const started = performance.now();
    const late = await editShardedModule(pb, 'slow');
    const ms = performance.now() - started;
    process.stdout.write(`      ${Math.round(ms)} ms with ${LATE_MS} ms on every way\n`);
    assert.ok(ms > LAYERS * LATE_MS, 'every layer has waited for the other host at least once');
    assert.deepEqual([...(await bytesOf(late))], [...before]);
    asBefore();
    assert.equal((await pb.models.get('slow')).replicas[0]!.epoch, epoch);
    await pb.models.undeploy('slow');
  });

  it('a node that joins takes the replica that there was no room for', async () => {
    // of the four slots of each host one has a rank of tp-two
    const large = pb.models.deploy({ name: 'large', model: TINY_FACTS, cpusPerRank: 5 });
    await assert.rejects(Promise.resolve(large), { code: 'PB_PLACEMENT_FAILED' }, 'what never fits is refused at once');
    const wide = pb.models.deploy({ name: 'wide', model: TINY_FACTS, replicas: 3, cpusPerRank: 3 });
    const ready = Promise.resolve(wide);
    await until(
      'two of three replicas',
      async () => {
        const found = await pb.models.get('wide').catch(() => undefined);
        return found?.replicas.filter(({ state }) => state === 'ready').length === 2 ? found : undefined;
      },
      60_000,
    );
    const joined = await cluster.join(cluster.host('d'), head);
    assert.equal(new Set(nodesOf(await ready)).size, 3);
    assert.ok(cluster.actors(joined.host).some((command) => command.startsWith('ray::Rank')));
    await pb.models.undeploy('wide');
  });

  it('from outside, through Ray Client: the same jobs, with the supervisor dialled directly', async () => {
    await pb.close();
    await cluster.down();
    const outside = cluster.host('e');
    info = await cluster.up(head, 'client', outside);
    pb = clientOf(info);
    await pb.models.deploy({ name: 'far', model: TINY_FACTS, tp: 2 });
    const direct = await editShardedModule(pb, 'far');
    assert.equal(direct.json.controlRoute, 'direct');
  });
});
