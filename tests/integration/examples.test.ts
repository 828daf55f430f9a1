/** Every example has the effect that it shows, on a sharded model, and draws its picture. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Patchbay } from '@patchbay/sdk';
import { editShardedModule } from '../../examples/01-edit.js';
import { flipAnswer } from '../../examples/02-patch.js';
import { causalTrace } from '../../examples/03-causal-trace.js';
import { attribute, checkAttribution } from '../../examples/04-attribution.js';
import { logitLens } from '../../examples/05-logit-lens.js';
import { TRIED_ON, steerLanguageToCapital } from '../../examples/06-steering.js';
import { ablateHeads } from '../../examples/07-ablate-heads.js';
import { probeContinents } from '../../examples/08-probe.js';
import { TAUGHT, trainAdapter } from '../../examples/09-adapter.js';
import { headNorms } from '../../examples/10-parameters.js';
import { attention } from '../../examples/11-attention.js';
import { ROOT, connect, deploymentOf, sharedStack } from '../support/stack.js';

const largest = (row: readonly number[]): number => row.indexOf(Math.max(...row));

describe('examples', () => {
  const model = deploymentOf(2);
  let client: Patchbay;
  before(() => {
    client = connect();
  });
  after(() => client.close());

  it('01: the edit sees all columns, and there are five singular values for five tokens, the largest first', async () => {
    const result = await editShardedModule(client, model);
    const values = [...result.saveCtx.tensor('activation_singular_values').toFloat32()];
    assert.equal(values.length, 5);
    assert.deepEqual(
      values,
      [...values].sort((a, b) => b - a),
    );
    assert.deepEqual(
      result.activations({ run: 'edited' }).map(({ shape }) => shape),
      [[1, 5, 512]],
    );
  });

  it('02: the patch flips the answer', async () => {
    const { runs } = await flipAnswer(client, model);
    const answers = ['france', 'italy', 'patched'].map((run) => runs[run]?.topK?.[0]?.[0]?.token);
    assert.deepEqual(answers, [' Paris', ' Rome', ' Paris']);
  });

  it('03: the fact is at the country in the first layers and at the last token in the last ones', async () => {
    const { map } = await causalTrace(client, model, 4);
    assert.deepEqual(map.values.map(largest), [3, 3, 4, 4]);
    assert.ok(Math.abs(map.values[0]![3]! - 1) < 0.05 && Math.abs(map.values[3]![4]! - 1) < 0.05);
  });

  it('04: attribution finds the country in the first layer and the last position in the last one', async () => {
    const { tokens, scores } = await attribute(client, model, {
      clean: 'The capital of France is',
      corrupted: 'The capital of Italy is',
      target: ' Paris',
      foil: ' Rome',
    });
    assert.equal(scores.length, 4);
    assert.equal(tokens[largest(scores[0]!)]?.trim(), 'Italy');
    assert.equal(largest(scores[3]!), tokens.length - 1);
  });

  it('04: and agrees with what patching really does', async () => {
    const { correlation } = await checkAttribution(client, model);
    assert.ok(correlation > 0.9 && correlation <= 1, String(correlation));
  });

  it('05: the lens sees the answer from layer 2 on, and its last row is what the model says', async () => {
    const { cells } = await logitLens(client, model, 4);
    const answers = cells.map((row) => row.at(-1)!.token);
    assert.deepEqual(answers.slice(2), [' Paris', ' Paris']);
    assert.ok(!answers.slice(0, 2).includes(' Paris'));
    const plain = await client.jobs.submit({
      model,
      runs: [{ name: 'r', inputs: { text: ['The capital of France is'] }, return: { topK: 1 } }],
    });
    const said = (await plain.result()).runs['r']!.topK![0]![0]!;
    assert.ok(Math.abs(cells[3]!.at(-1)!.probability - said.probability) < 1e-5);
  });

  it('06: the vector turns languages into capitals, and strength 0 changes nothing', async () => {
    const steered = await steerLanguageToCapital(client, model);
    const texts = (strength: number): string[] | undefined =>
      steered.find((one) => one.strength === strength)?.texts.map((text) => text.trim());
    assert.deepEqual(TRIED_ON.slice(0, 3), ['Japan', 'China', 'Iran']);
    assert.deepEqual(texts(0)?.slice(0, 3), ['Japanese', 'Chinese', 'Persian']);
    assert.deepEqual(texts(1)?.slice(0, 3), ['Tokyo', 'Beijing', 'Tehran']);
  });

  it('07: one head of layer 2 matters more than all others', async () => {
    const { values } = await ablateHeads(client, model);
    const all = values.flatMap((row, layer) => row.map((lost, head) => ({ lost, at: `${layer}.${head}` })));
    const [first, second] = [...all].sort((a, b) => b.lost - a.lost);
    assert.equal(first!.at, '2.7');
    assert.ok(first!.lost > 0.2 && first!.lost > 3 * second!.lost, JSON.stringify([first, second]));
  });

  it('08: probes learn their countries by heart and are better than chance on others', async () => {
    const scores = await probeContinents(client, model);
    assert.equal(scores.length, 4);
    for (const { losses } of scores) assert.ok(losses.at(-1)! < losses[0]!, `${losses[0]} -> ${losses.at(-1)}`);
    assert.equal(scores[3]!.seen, 1);
    assert.ok(scores[2]!.unseen > 0.6, String(scores[2]!.unseen)); // the most frequent continent has 0.4
    assert.ok(scores[2]!.unseen > scores[0]!.unseen, 'the first layer knows less');
  });

  it('09: the adapter teaches one capital and keeps the others', async () => {
    const { losses, answers, parameters } = await trainAdapter(client, model);
    assert.ok(losses.at(-1)! < losses[0]!);
    for (const [country, { before, after }] of Object.entries(answers)) {
      if (country === TAUGHT.country) assert.deepEqual([before, after], [' Suva', ' Paris']);
      else assert.equal(after, before);
    }
    assert.deepEqual(parameters, { 'adapter.0.weight': [4, 128], 'adapter.1.weight': [128, 4] });
  });

  it('10: parameters come whole, the same from one, two and four ranks', async () => {
    const [one, two, four] = await Promise.all(([1, 2, 4] as const).map((tp) => headNorms(client, deploymentOf(tp))));
    assert.deepEqual(two!.shapes['model.layers.0.self_attn.o_proj.weight'], [128, 128]);
    assert.deepEqual(one!.map.values, two!.map.values);
    assert.deepEqual(one!.map.values, four!.map.values);
    assert.ok(Math.max(...one!.map.values.flat()) === 1 && Math.min(...one!.map.values.flat()) < 0.9);
  });

  it('11: the patterns are those of the eager kernel of transformers', async () => {
    const { tokens, heads } = await attention(client, model, { layer: 2, heads: 8, keyHeads: 4 });
    assert.equal(tokens.length, 5);
    // AutoModelForCausalLM.from_pretrained(model, attn_implementation='eager')(..., output_attentions=True).attentions[2]
    const eager = [0.8387, 0.9981, 0.5681, 0.9554, 1, 1, 0.9952, 0.9992];
    const strongest = heads.map((pattern) => Math.max(...pattern.at(-1)!));
    for (const [head, value] of strongest.entries())
      assert.ok(Math.abs(value - eager[head]!) < 1e-4, `head ${head}: ${value}`);
    assert.deepEqual(heads.map((pattern) => largest(pattern.at(-1)!)), [2, 0, 1, 2, 3, 3, 0, 1]); // prettier-ignore
  });

  it('is a script that writes its picture', async () => {
    const { redisUrl, http, token } = sharedStack().info;
    const folder = mkdtempSync(join(tmpdir(), 'pb-example-'));
    try {
      await client.models.deploy({ name: 'tiny-facts', model: join(ROOT, 'models/tiny-facts') });
      const child = spawnSync(
        process.execPath,
        ['--import', join(ROOT, 'node_modules/tsx/dist/loader.mjs'), join(ROOT, 'examples/05-logit-lens.ts')],
        {
          cwd: folder,
          encoding: 'utf8',
          timeout: 60_000,
          env: { ...process.env, PATCHBAY_REDIS_URL: redisUrl, PATCHBAY_HTTP_URL: http, PATCHBAY_TOKEN: token },
        },
      );
      assert.equal(child.status, 0, child.stderr);
      assert.match(child.stdout, /layer 3.*Paris/);
      assert.deepEqual(readdirSync(join(folder, 'out/examples')), ['logit-lens.svg']);
      const svg = readFileSync(join(folder, 'out/examples/logit-lens.svg'), 'utf8');
      assert.match(svg, /^<svg [^]*Paris[^]*<\/svg>\n?$/);
      assert.ok(!existsSync(join(folder, '.patchbay')), 'it started nothing of its own');
    } finally {
      await client.models.undeploy('tiny-facts');
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
