/**
 * The same experiments in other tools: nnsight, unsharded, always; FlexModel on two ranks where PATCHBAY_FLEXMODEL names a
 * checkout of it. Equal where the tool is right; where it is not, the test says what it does and what we do instead.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isPatchbayError, readSafetensors, type ErrorCode } from '@patchbay/sdk';
import type { JobResult, JobSpec, Patchbay, Tensor } from '@patchbay/sdk';
import { makeCheckpoint } from '../support/checkpoint.js';
import { recordPeer } from '../support/conformance-table.js';
import { maxDifference } from '../support/reference.js';
import { DEPLOYMENTS, ROOT, TINY_FACTS, connect } from '../support/stack.js';
import { TOLERANCE } from './cases.js';

const EFFECT = 1e-3;
const FRANCE = { text: ['The capital of France is'] };
const ITALY = { text: ['The capital of Italy is'] };
const TWO = { text: ['The capital of France is', 'The capital of Italy is'] };
const ALL = { logits: 'all' as const };
const GATE = 'model.layers.2.mlp.gate_proj';
const LAYER = 'model.layers.1';

const edit = (body: string): { kind: 'python'; source: string } => ({
  kind: 'python',
  source: `def edit(current_module, inputs, save_ctx, modules):\n    ${body.replaceAll('\n', '\n    ')}\n`,
});
const MIX = edit('return inputs.flip(-1) * 0.5 + inputs.cumsum(-1) * 0.01');
const SCALE = edit('return inputs * 1.5 + 0.1');
const STEER = edit('return inputs + torch.linspace(-1, 1, 128)');

/** One job for all experiments that nnsight runs; hooks are on by group. */
const EXPERIMENTS: Omit<JobSpec, 'model'> = {
  hooks: [
    {
      name: 'keep',
      moduleName: LAYER,
      edit: edit('save_ctx.kept = inputs[:, 3:4].clone()\nreturn inputs'),
      groups: ['keep'],
    },
    { name: 'put', moduleName: LAYER, edit: edit('return save_ctx.kept'), where: { positions: [3] }, groups: ['put'] },
    { name: 'steer', moduleName: 'model.layers.2', edit: STEER, groups: ['steer'] },
    {
      name: 'head',
      moduleName: 'model.layers.2.self_attn.o_proj',
      hookType: 'forward_pre',
      edit: edit('inputs = inputs.clone()\ninputs[..., 112:128] = 0\nreturn inputs'),
      groups: ['head'],
    },
    { name: 'more', moduleName: 'model.layers.2', edit: edit('return inputs * 1.5'), groups: ['gradient'] },
    { name: 'gradient', moduleName: LAYER, hookType: 'full_backward_pre', groups: ['gradient'] },
    { name: 'early', moduleName: LAYER, edit: STEER, save: 'none', groups: ['generate'] },
  ],
  runs: [
    { name: 'clean', inputs: FRANCE, hooks: { names: [] }, return: { ...ALL, topK: 1 } },
    { name: 'italy', inputs: ITALY, hooks: { groups: ['keep'] } },
    { name: 'patched', inputs: FRANCE, hooks: { groups: ['put'] }, return: ALL },
    { name: 'steered', inputs: FRANCE, hooks: { groups: ['steer'] }, return: ALL },
    { name: 'head', inputs: FRANCE, hooks: { groups: ['head'] }, return: ALL },
    {
      name: 'ragged',
      inputs: { text: ['The capital of France is', 'The capital of'] },
      hooks: { groups: ['steer'] },
      return: ALL,
    },
    {
      name: 'back',
      mode: 'backward',
      inputs: FRANCE,
      hooks: { groups: ['gradient'] },
      loss: {
        kind: 'python',
        source: `def loss(logits, save_ctx, modules):\n    return logits[0, -1, PARIS]`,
      },
    },
    { name: 'generated', mode: 'generate', inputs: FRANCE, hooks: { groups: ['generate'] }, maxNewTokens: 5 },
  ],
};

/** Rows of [B, S, V]. */
function rowsOf(tensor: Tensor, row: number, length: number): Float32Array {
  const [, width = 0, words = 0] = tensor.shape;
  return tensor.toFloat32().subarray(row * width * words, (row * width + length) * words);
}

function difference(a: Float32Array, b: Float32Array): number {
  assert.equal(a.length, b.length);
  const scale = b.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  return a.reduce((most, value, index) => Math.max(most, Math.abs(value - b[index]!)), 0) / scale;
}

describe('other tools', () => {
  let client: Patchbay;
  let folder: string;
  before(() => {
    client = connect();
    folder = mkdtempSync(join(tmpdir(), 'pb-peers-'));
  });
  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    await client.close();
  });

  const run = async (job: Omit<JobSpec, 'model'>, model: string): Promise<JobResult> =>
    (await client.jobs.submit({ model, ...job })).result();

  const python = async (args: readonly string[], env: Record<string, string> = {}): Promise<unknown> => {
    const { stdout } = await promisify(execFile)(join(ROOT, '.venv/bin/python'), [...args], {
      cwd: ROOT,
      env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
      timeout: 110_000,
      maxBuffer: 1 << 26,
    });
    return JSON.parse(stdout.trim().split('\n').at(-1)!);
  };

  describe('nnsight 0.8.1', () => {
    let theirs: ReadonlyMap<string, Tensor>;
    let wrong: { firstOutputRows: number[]; savedThenZeroed: number };
    let gpt2: string;
    before(async function () {
      this.timeout(180_000);
      gpt2 = makeCheckpoint('gpt2');
      const out = join(folder, 'nnsight.safetensors');
      const side = 'tests/conformance/nnsight_side.py';
      wrong = (await python([side, TINY_FACTS, gpt2, out])) as typeof wrong;
      theirs = readSafetensors(readFileSync(out));
    });
    after(() => rmSync(gpt2, { recursive: true, force: true }));

    const want = (name: string): Tensor => theirs.get(name)!;

    for (const deployment of Object.keys(DEPLOYMENTS))
      it(`is equal, ${deployment}`, async () => {
        const clean = await run({ runs: [EXPERIMENTS.runs[0]!] }, deployment);
        const paris = clean.runs['clean']!.topK![0]![0]!.tokenId;
        const document = JSON.parse(JSON.stringify(EXPERIMENTS).replace('PARIS', String(paris))) as typeof EXPERIMENTS;
        const result = await run(document, deployment);
        const record = (name: string, value: number): void => {
          assert.ok(value <= TOLERANCE, `${name}: ${value}`);
          recordPeer(`nnsight: ${name}`, deployment, value);
        };
        for (const name of ['clean', 'patched', 'steered', 'head']) {
          record(name, maxDifference(result.logits(name), want(name)));
          if (name !== 'clean') assert.ok(maxDifference(want(name), want('clean')) > EFFECT, name);
        }
        const ragged = [0, 1].map((row) => {
          const expected = want(`ragged/${row}`);
          return difference(rowsOf(result.logits('ragged'), row, expected.shape[0]!), expected.toFloat32());
        });
        record('ragged batch, steered', Math.max(...ragged));
        const gradient = result.activations({ hook: 'gradient' })[0]!.tensor();
        record('gradient through an edit', maxDifference(gradient, want('gradient')));
        const tokens = result.runs['generated']!.generatedTokenIds![0]!;
        assert.deepEqual(tokens, [...want('generated').toFloat32()]);
        recordPeer('nnsight: steered generation, tokens', deployment, 0);
      });

    it('differs: `output[0]` of a layer is a row of the batch there; a hook here sees the whole', async () => {
      assert.ok(wrong.firstOutputRows[0]! > EFFECT, 'the first row is steered');
      assert.ok(wrong.firstOutputRows[1]! <= 1e-4, 'and no other');
      const hooks = [{ moduleName: 'model.layers.2', edit: edit('return inputs + 1') }];
      const runs = [
        { name: 'plain', inputs: TWO, hooks: { names: [] }, return: ALL },
        { name: 'steered', inputs: TWO, return: ALL },
      ];
      const result = await run({ hooks, runs }, 'facts-tp2');
      const [steered, plain] = [result.logits('steered'), result.logits('plain')];
      for (const row of [0, 1])
        assert.ok(difference(rowsOf(steered, row, 5), rowsOf(plain, row, 5)) > EFFECT, `row ${row}`);
      recordPeer('nnsight: `output[0]` edits one row of a batch; ours all', 'facts-tp2', 0);
    });

    it('differs: a saved value is the tensor itself there, and a later edit in place changes it; a copy here', async () => {
      assert.equal(wrong.savedThenZeroed, 0);
      const hooks = [{ name: 'h', moduleName: LAYER, edit: edit('return inputs.zero_()') }];
      const saved = (await run({ hooks, runs: [{ inputs: FRANCE }] }, 'facts-tp2')).activations()[0]!.tensor();
      assert.ok(saved.toFloat32().some((value) => Math.abs(value) > EFFECT));
      recordPeer('nnsight: an edit in place changes what was saved before it; here it was copied', 'facts-tp2', 0);
    });

    it('is equal: padded rows of GPT-2, whose positions are learned', async () => {
      await client.models.deploy({ name: 'gpt2', model: gpt2, tp: 1 });
      try {
        const inputs = {
          tokenIds: [
            [5, 9, 31, 4, 17],
            [7, 3],
          ],
        };
        const result = await run({ runs: [{ name: 'r', inputs, return: ALL }] }, 'gpt2');
        const worst = [0, 1].map((row) => {
          const expected = want(`gpt2/${row}`);
          return difference(rowsOf(result.logits('r'), row, expected.shape[0]!), expected.toFloat32());
        });
        assert.ok(Math.max(...worst) <= TOLERANCE, String(worst));
        recordPeer('nnsight: padded rows of GPT-2', 'facts-tp1', Math.max(...worst));
      } finally {
        await client.models.undeploy('gpt2');
      }
    });
  });

  describe('FlexModel', function () {
    const sources = process.env['PATCHBAY_FLEXMODEL'];
    if (sources === undefined) return; // not on a registry: `npm run differential` says how to get it
    let theirs: ReadonlyMap<string, Tensor>;
    let wrong: Record<string, unknown>;
    before(async function () {
      this.timeout(180_000);
      const out = join(folder, 'flexmodel.safetensors');
      const launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2'];
      const side = [...launch, 'tests/conformance/flexmodel_side.py', TINY_FACTS, out];
      wrong = (await python(side, { PYTHONPATH: sources, PYTHONHASHSEED: '0' })) as typeof wrong;
      theirs = readSafetensors(readFileSync(out));
    });

    const cases: Readonly<Record<string, NonNullable<JobSpec['hooks']>>> = {
      reads: [
        { name: 'a', moduleName: GATE, expectedShape: [null, null, 512] },
        { name: 'b', moduleName: LAYER },
      ],
      edit: [{ name: 'a', moduleName: GATE, expectedShape: [null, null, 512], edit: MIX }],
      pre: [{ name: 'a', moduleName: 'model.layers.1.mlp.down_proj', hookType: 'forward_pre', edit: MIX }],
      residual: [{ name: 'a', moduleName: LAYER, edit: SCALE }],
      chain: [
        { name: 'a', moduleName: GATE, edit: MIX },
        { name: 'b', moduleName: GATE, edit: SCALE },
      ],
      ids: [
        {
          name: 'a',
          moduleName: 'model.embed_tokens',
          hookType: 'forward_pre',
          edit: edit('return inputs.roll(1, -1)'),
        },
      ],
    };
    for (const [name, hooks] of Object.entries(cases))
      it(`is equal: ${name}`, async () => {
        const result = await run({ hooks, runs: [{ name: 'r', inputs: TWO, return: ALL }] }, 'facts-tp2');
        const differences = [maxDifference(result.logits('r'), theirs.get(`${name}/logits`)!)];
        const lists = new Map<string, number>();
        for (const entry of result.activations()) {
          const index = lists.get(entry.module) ?? 0;
          lists.set(entry.module, index + 1);
          differences.push(maxDifference(await entry.load(), theirs.get(`${name}/${entry.module}/${index}`)!));
        }
        assert.equal(differences.length, hooks.length + 1, 'as many saved tensors as hooks');
        const worst = Math.max(...differences);
        assert.ok(worst <= TOLERANCE, String(worst));
        if (name !== 'reads')
          assert.ok(maxDifference(result.logits('r'), theirs.get('clean/logits')!) > EFFECT, 'the edit bites');
        recordPeer(`FlexModel: ${name}`, 'facts-tp2', worst);
      });

    const refused = async (code: ErrorCode, job: Omit<JobSpec, 'model'>): Promise<void> => {
      const problem: unknown = await run(job, 'facts-tp2').catch((cause: unknown) => cause);
      assert.ok(isPatchbayError(problem, code), String(problem));
    };
    const differs = (what: string, check: () => Promise<void>): void => {
      it(`differs: ${what}`, async () => {
        await check();
        recordPeer(`FlexModel: ${what}`, 'facts-tp2', 0);
      });
    };

    differs('no gradient upstream of a gathered edit there; exact here', async () => {
      assert.equal(wrong['upstreamGradient'], 0);
      const moduleName = 'model.layers.3.mlp.gate_proj';
      const hooks = [
        { name: 'e', moduleName, edit: MIX },
        { name: 'g', moduleName, hookType: 'full_backward' as const },
      ];
      const runs = [{ mode: 'backward' as const, inputs: TWO, loss: { kind: 'sumLogits' as const } }];
      const gradient = (await run({ hooks, runs }, 'facts-tp2')).activations({ hook: 'g' })[0]!.tensor();
      assert.ok(gradient.toFloat32().some((value) => Math.abs(value) > EFFECT));
    });
    differs('the edit runs on every rank there, once here', async () => {
      assert.equal(wrong['editCalls'], 2);
      const hooks = [{ moduleName: GATE, edit: edit('save_ctx.n = save_ctx.get("n", 0) + 1\nreturn inputs') }];
      assert.equal((await run({ hooks, runs: [{ inputs: TWO }] }, 'facts-tp2')).saveCtx.get('n'), 1);
    });
    differs('keyword arguments are not edited there, silently; here they are', async () => {
      assert.equal(wrong['keywordsEdited'], 0);
      const hooks = [{ moduleName: 'model.layers.2.self_attn', hookType: 'forward_pre' as const, edit: SCALE }];
      const result = await run({ hooks, runs: [{ name: 'r', inputs: TWO, return: ALL }] }, 'facts-tp2');
      assert.ok(maxDifference(result.logits('r'), theirs.get('clean/logits')!) > EFFECT);
    });
    differs('a wrong expected_shape is accepted there, refused here', async () => {
      assert.ok((wrong['wrongShape'] as number) > EFFECT);
      const hooks = [{ moduleName: GATE, expectedShape: [null, null, 999], edit: SCALE }];
      await refused('PB_SHAPE_MISMATCH', { hooks, runs: [{ inputs: TWO }] });
    });
    differs('an unknown group switches every hook off there; refused here', async () => {
      assert.equal(wrong['unknownGroup'], 0);
      const hooks = [{ moduleName: GATE, edit: SCALE }];
      await refused('PB_GROUP_NOT_FOUND', { hooks, runs: [{ inputs: TWO, hooks: { groups: ['nobody'] } }] });
    });
    differs('an edit may change the dtype there; refused here', async () => {
      assert.equal(wrong['otherDtype'], 'torch.float64');
      const hooks = [{ moduleName: LAYER, edit: edit('return inputs.double()') }];
      await refused('PB_EDIT_DTYPE', { hooks, runs: [{ inputs: TWO }] });
    });
    differs('a group by substring has no hooks there; here globs and HookGroups', async () => {
      assert.equal(wrong['hookGroup'], '0');
      const hooks = [{ moduleName: '**.gate_proj', edit: SCALE }];
      const result = await run({ hooks, runs: [{ inputs: TWO }] }, 'facts-tp2');
      assert.equal(result.json.hooks.length, 4);
    });
    differs('a parameter by name raises there; here it comes whole', async () => {
      assert.equal(wrong['parameter'], 'TypeError');
      const name = `${GATE}.weight`;
      const result = await run({ runs: [{ inputs: TWO }], return: { parameters: [name] } }, 'facts-tp2');
      assert.deepEqual((await result.tensor('parameters.safetensors', name)).shape, [512, 128]);
    });
  });
});
