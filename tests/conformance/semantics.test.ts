/** C1-C21, the semantics of HookFunction, each shown through the SDK. Numbers: sharded-equals-unsharded.test.ts. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { HookFunction, HookGroups, isPatchbayError, readSafetensors, type ErrorCode } from '@patchbay/sdk';
import type { JobResult, JobSpec, Patchbay, Tensor } from '@patchbay/sdk';
import { recordSemantics } from '../support/conformance-table.js';
import { maxDifference } from '../support/reference.js';
import { TINY_FACTS, connect } from '../support/stack.js';
import { TOLERANCE } from './cases.js';

const EFFECT = 1e-3;
const PROMPT = { text: ['The capital of France is'] };
const TWO = { text: ['The capital of France is', 'The capital of Italy is'] };
const ALL = { logits: 'all' as const };
const GATE = 'model.layers.2.mlp.gate_proj';
const LOSS = { kind: 'logitDiff' as const, target: ' Paris', foil: ' Rome' };
const edit = (body: string): { kind: 'python'; source: string } => ({
  kind: 'python',
  source: `def edit(current_module, inputs, save_ctx, modules):\n    ${body.trim().replaceAll('\n', '\n    ')}\n`,
});

describe('semantics of hooks', () => {
  let client: Patchbay;
  before(() => {
    client = connect();
  });
  after(() => client.close());
  afterEach(function () {
    if (this.currentTest?.state === 'passed') recordSemantics(this.currentTest.title);
  });
  const run = async (job: Omit<JobSpec, 'model'>, model = 'facts-tp2'): Promise<JobResult> =>
    (await client.jobs.submit({ model, ...job })).result();
  const logits = async (hooks: JobSpec['hooks'], model?: string): Promise<Tensor> =>
    (
      await run({ ...(hooks !== undefined && { hooks }), runs: [{ name: 'r', inputs: TWO, return: ALL }] }, model)
    ).logits('r');
  const refused = async (code: ErrorCode, job: Omit<JobSpec, 'model'>): Promise<string> => {
    const problem: unknown = await run(job).catch((cause: unknown) => cause);
    assert.ok(isPatchbayError(problem, code), String(problem));
    return problem.message;
  };

  it('C1 five hook types are torch registrations', async () => {
    const result = await run({
      hooks: [
        { name: 'forward', moduleName: GATE },
        { name: 'forward_pre', moduleName: GATE, hookType: 'forward_pre' },
        { name: 'full_backward', moduleName: GATE, hookType: 'full_backward' },
        { name: 'full_backward_pre', moduleName: GATE, hookType: 'full_backward_pre' },
        { name: 'tensor', moduleName: `${GATE}.weight`, hookType: 'tensor' },
      ],
      runs: [{ name: 'r', mode: 'backward', inputs: TWO, loss: LOSS }],
      return: { parameters: [`${GATE}.weight`] },
    });
    const shapes = Object.fromEntries(result.activations().map((entry) => [entry.hook, entry.tensor().shape]));
    assert.deepEqual(shapes, {
      forward: [2, 5, 512],
      forward_pre: [2, 5, 128],
      full_backward: [2, 5, 128],
      full_backward_pre: [2, 5, 512],
      tensor: [512, 128],
    });
    // y = x Wᵀ, so dx = dy W and dW = dyᵀ x: each hook has to have seen its own one of the five.
    const of = (hook: string): Float32Array => result.activations({ hook })[0]!.tensor().toFloat32();
    const [y, x, dx, dy, dw] = ['forward', 'forward_pre', 'full_backward', 'full_backward_pre', 'tensor'].map(of);
    const w = (await result.tensor('parameters.safetensors', `${GATE}.weight`)).toFloat32();
    const dot = (length: number, term: (k: number) => number): number =>
      Array.from({ length }, (_, k) => term(k)).reduce((sum, value) => sum + value, 0);
    const near = (got: number, want: number, what: string): void => {
      assert.ok(Math.abs(got - want) <= TOLERANCE * Math.max(10, Math.abs(want)), `${what}: ${got} for ${want}`);
    };
    for (const [row, column, neuron] of [
      [9, 0, 0],
      [4, 77, 300],
      [9, 127, 511],
    ] as const) {
      const [wantX, wantW] = [
        dot(512, (k) => dy![row * 512 + k]! * w[k * 128 + column]!),
        dot(10, (k) => dy![k * 512 + neuron]! * x![k * 128 + column]!),
      ];
      near(
        y![row * 512 + neuron]!,
        dot(128, (k) => x![row * 128 + k]! * w[neuron * 128 + k]!),
        'y',
      );
      near(dx![row * 128 + column]!, wantX, 'dx');
      near(dw![neuron * 128 + column]!, wantW, 'dW');
    }
    for (const values of [y, x, dx, dy, dw]) assert.ok(values!.some((value) => Math.abs(value) > EFFECT));
  });

  it('C2 forward edits outputs, forward_pre arguments and keyword arguments', async () => {
    const plain = await logits([]);
    for (const [hookType, moduleName] of [
      ['forward', GATE],
      ['forward_pre', 'model.layers.1.mlp.down_proj'],
      ['forward_pre', 'model.layers.1.self_attn'], // called by keywords only
    ] as const) {
      const edited = await logits([{ moduleName, hookType, edit: edit('return inputs * 1.5') }]);
      assert.ok(maxDifference(edited, plain) > EFFECT, moduleName);
    }
  });

  it('C2 full_backward_pre edits the gradient of outputs, full_backward that of arguments', async () => {
    const upstream = async (hooks: NonNullable<JobSpec['hooks']>): Promise<Tensor> => {
      const watch = { name: 'g', moduleName: 'model.layers.0', hookType: 'full_backward_pre' as const };
      const runs = [{ name: 'r', mode: 'backward' as const, inputs: TWO, loss: LOSS }];
      return (await run({ hooks: [...hooks, watch], runs })).activations({ hook: 'g' })[0]!.tensor();
    };
    const plain = await upstream([]);
    const edited = (hookType: 'full_backward_pre' | 'full_backward', factor: number): Promise<Tensor> =>
      upstream([{ name: 'e', moduleName: GATE, hookType, edit: edit(`return inputs * ${factor}`) }]);
    const [before, behind, none] = [
      await edited('full_backward_pre', 2),
      await edited('full_backward', 2),
      await edited('full_backward', 0),
    ];
    assert.ok(maxDifference(before, plain) > EFFECT);
    assert.ok(maxDifference(before, behind) <= TOLERANCE, 'a linear map doubles what comes in and what goes out alike');
    const values = [none, plain, behind].map((tensor) => tensor.toFloat32());
    for (const index of [0, 1000, 1279]) {
      const [without, once, twice] = values.map((each) => each[index]!);
      assert.ok(Math.abs(twice! - once! - (once! - without!)) <= TOLERANCE * 10, 'its share, once more');
    }
  });

  it('C3 an edit gets (current_module, inputs, save_ctx, modules); without one nothing changes', async () => {
    const source = `
save_ctx.seen = [current_module.name, current_module.class_name, type(inputs).__name__, sorted(modules.keys())]
return inputs`;
    const result = await run({
      modules: { m: { kind: 'linear', inFeatures: 2, outFeatures: 2 } },
      hooks: [{ moduleName: GATE, edit: edit(source) }],
      runs: [{ name: 'r', inputs: TWO, return: ALL }],
    });
    assert.deepEqual(result.saveCtx.get('seen'), [GATE, 'Linear', 'Tensor', ['m']]);
    const plain = await logits([]);
    assert.equal(maxDifference(result.logits('r'), plain), 0);
    assert.equal(maxDifference(await logits([{ moduleName: GATE }]), plain), 0);
  });

  for (const model of ['facts-tp4', 'facts-dp2', 'facts-pp2-tp2'])
    it(`C4 the edit sees the full tensor, ${model}`, async () => {
      const hooks = [{ moduleName: GATE, edit: edit('save_ctx.shape = list(inputs.shape)\nreturn inputs') }];
      const result = await run({ hooks, runs: [{ inputs: TWO }] }, model);
      assert.deepEqual(result.saveCtx.get('shape'), [2, 5, 512]);
      assert.equal(result.json.hooks[0]!.calls, 1, 'and runs once');
    });

  it('C5 expectedShape is a checked assertion', async () => {
    const hook = (expectedShape: (number | null)[]): JobSpec['hooks'] => [{ moduleName: GATE, expectedShape }];
    await run({ hooks: hook([null, null, 512])!, runs: [{ inputs: TWO }] });
    const message = await refused('PB_SHAPE_MISMATCH', { hooks: hook([null, null, 256])!, runs: [{ inputs: TWO }] });
    assert.match(message, /rank 0: \[2, 5, 256\], rank 1: \[2, 5, 256\]/);
  });

  it('C6 unpackIdx counts tensor leaves, depth first', async () => {
    const at = (unpackIdx: number): JobSpec['hooks'] => [
      { moduleName: 'model.layers.1.self_attn', hookType: 'forward_pre', unpackIdx },
    ];
    const leaf = async (index: number, text = TWO.text): Promise<Tensor> =>
      (await run({ hooks: at(index)!, runs: [{ inputs: { text } }] })).activations()[0]!.tensor();
    assert.deepEqual((await leaf(0)).shape, [2, 5, 128]);
    const cosine = await leaf(3); // a mask stands before it where rows are padded, and nothing where they are not
    assert.equal(cosine.shape.at(-1), 16);
    assert.ok(
      cosine
        .toFloat32()
        .subarray(0, 16)
        .every((value) => value === 1),
      'of position 0',
    );
    const padded = await leaf(3, ['The capital of France is', 'The capital']);
    assert.deepEqual(padded.toFloat32(), cosine.toFloat32(), 'the same tensor in every batch');
    await refused('PB_UNPACK_INDEX', { hooks: at(40)!, runs: [{ inputs: TWO }] });
  });

  it('C7 a saved activation is full; before the edit by default, after it if asked; one per call', async () => {
    const double = edit('return inputs * 2');
    const result = await run({
      hooks: [
        { name: 'pre', moduleName: GATE, edit: double },
        { name: 'post', moduleName: GATE, edit: double, save: 'post' },
      ],
      runs: [{ name: 'r', mode: 'generate', inputs: PROMPT, maxNewTokens: 3 }],
    });
    const of = (hook: string): Tensor[] => result.activations({ hook }).map((entry) => entry.tensor());
    assert.deepEqual(
      of('pre').map((tensor) => tensor.shape),
      [
        [1, 5, 512],
        [1, 1, 512],
        [1, 1, 512],
      ],
    );
    for (const [index, before] of of('pre').entries()) {
      const [x, y] = [before.toFloat32(), of('post')[index]!.toFloat32()] as const;
      assert.ok(
        x.every((value, at) => y[at] === value * 4),
        'two edits lie between',
      );
    }
  });

  it('C8 shape and type must stay', async () => {
    const returning = (what: string): Omit<JobSpec, 'model'> => ({
      hooks: [{ moduleName: GATE, edit: edit(`return ${what}`) }],
      runs: [{ inputs: TWO }],
    });
    await refused('PB_EDIT_SHAPE', returning('inputs[..., :-1]'));
    await refused('PB_EDIT_DTYPE', returning('inputs.double()'));
    await refused('PB_EDIT_RETURNED_NONE', returning('None'));
  });

  it('C9 gradients over copies are those of the whole batch, for a reader and for an edit', async () => {
    // Not linear: an edit that saw a gradient of another size would give another one, and not in proportion.
    const squash = edit('return (inputs * 50).tanh() / 50');
    const job = {
      hooks: [
        { name: 'e', moduleName: 'model.layers.2', hookType: 'full_backward_pre' as const, edit: squash },
        { name: 'g', moduleName: 'model.layers.1', hookType: 'full_backward_pre' as const },
      ],
      runs: [
        { name: 'plain', mode: 'backward' as const, inputs: TWO, hooks: { names: ['g'] }, loss: LOSS },
        { name: 'edited', mode: 'backward' as const, inputs: TWO, loss: LOSS },
      ],
    };
    const [whole, copies] = await Promise.all(['facts-tp1', 'facts-dp2'].map(async (model) => run(job, model)));
    const of = (result: JobResult, name: string): Tensor => result.activations({ run: name, hook: 'g' })[0]!.tensor();
    for (const name of ['plain', 'edited'])
      assert.ok(maxDifference(of(copies!, name), of(whole!, name)) <= TOLERANCE, name);
    assert.ok(maxDifference(of(whole!, 'edited'), of(whole!, 'plain')) > EFFECT);
  });

  it('C10 save_ctx is shared by hooks and runs', async () => {
    const count = edit("save_ctx.n = save_ctx.get('n', 0) + 1\nreturn inputs");
    const runs = [{ inputs: PROMPT }, { inputs: TWO }];
    const result = await run({ hooks: [{ moduleName: 'model.layers.*', edit: count }], runs }, 'facts-pp2-tp2');
    assert.equal(result.saveCtx.get('n'), 8);
  });

  it('C11 modules are seen by all hooks, trained, and come back', async () => {
    const use = edit("return inputs + modules['m'](inputs)");
    const job = (steps: number): Omit<JobSpec, 'model'> => ({
      modules: { m: { kind: 'linear', inFeatures: 128, outFeatures: 128 } },
      hooks: [{ moduleName: 'model.layers.[13]', edit: use, save: 'none' }],
      runs: [
        {
          name: 'fit',
          mode: 'train',
          inputs: TWO,
          loss: { kind: 'nextToken' },
          steps,
          optimizer: { kind: 'sgd', lr: 0.05 },
        },
      ],
    });
    const [first, later] = [await run(job(1)), await run(job(10))];
    const weight = (result: JobResult): Promise<Tensor> => result.tensor('modules.safetensors', 'm.weight');
    assert.ok(maxDifference(await weight(first), await weight(later)) > EFFECT);
    const { losses } = later.json.runs['fit']!;
    assert.equal(losses!.length, 10);
    assert.ok(losses![9]! < losses![0]!);
  });

  it('C12 a hook object registers once', async () => {
    const hook = new HookFunction({ moduleName: GATE });
    const job = { runs: [{ inputs: PROMPT, hooks: [hook] }] };
    await run(job);
    const again: unknown = await run({ runs: [{ inputs: TWO, hooks: [hook] }] }).catch((cause: unknown) => cause);
    assert.ok(isPatchbayError(again, 'PB_HOOK_REUSED'));
  });

  it('C13 hooks on one module chain in their order', async () => {
    const [double, add] = [edit('return inputs * 2'), edit('return inputs + 1')];
    const chain = async (...edits: { kind: 'python'; source: string }[]): Promise<Tensor> =>
      logits(edits.map((each) => ({ moduleName: GATE, edit: each })));
    const first = await chain(double, add);
    assert.ok(maxDifference(first, await chain(edit('return inputs * 2 + 1'))) <= TOLERANCE);
    assert.ok(maxDifference(first, await chain(add, double)) > EFFECT);
  });

  it('C14 groups: union, complement, names; sets by object, list and substring', async () => {
    const hook = (name: string, ...groups: string[]): HookFunction =>
      new HookFunction({ name, moduleName: GATE, groups });
    const [a, b, c] = [hook('a', 'x'), hook('b', 'x', 'y'), hook('c')];
    const sets = new HookGroups([a, b, c]).add('late', [b]).add('late', 'c');
    const result = await run({
      hooks: [a, b, c],
      runs: [
        { name: 'all', inputs: PROMPT },
        { name: 'union', inputs: PROMPT, hooks: { groups: ['x', 'y'] } },
        { name: 'complement', inputs: PROMPT, hooks: { groups: ['x'], complement: true } },
        { name: 'names', inputs: PROMPT, hooks: { names: ['c', 'a'] } },
        { name: 'set', inputs: PROMPT, hooks: sets.in('late') },
        { name: 'outside', inputs: PROMPT, hooks: sets.outside('late') },
      ],
    });
    const on = (name: string): string =>
      result.json.hooks.flatMap((each) => (each.run === name ? each.hook : [])).join('');
    const names = ['all', 'union', 'complement', 'names', 'set', 'outside'];
    assert.deepEqual(names.map(on), ['abc', 'ab', 'c', 'ac', 'bc', 'a']);
  });

  for (const model of ['facts-tp2', 'facts-dp2', 'facts-pp2-tp2'])
    it(`C15 a job leaves the model as it was, ${model}`, async () => {
      const plain = await logits([], model);
      const bad = edit("raise ValueError('x')");
      await run({ hooks: [{ moduleName: 'model.layers.*', edit: bad }], runs: [{ inputs: TWO }] }, model).catch(
        () => 0,
      );
      const noise = edit('return inputs + torch.randn_like(inputs)');
      const runs = [{ name: 'r', mode: 'backward' as const, inputs: TWO, loss: LOSS }];
      await run({ hooks: [{ moduleName: 'model.layers.*', edit: noise }], runs }, model);
      assert.equal(maxDifference(await logits([], model), plain), 0);
    });

  it('C16 a result comes once: the same id again is the first job', async () => {
    const spec = {
      model: 'facts-tp2',
      hooks: [{ moduleName: GATE, edit: edit('save_ctx.x = float(torch.rand(()))\nreturn inputs') }],
      runs: [{ inputs: PROMPT }],
    };
    const jobId = `once-${process.pid}-${Date.now()}`;
    const first = await (await client.jobs.submit(spec, { jobId })).result();
    const second = await (await client.jobs.submit(spec, { jobId })).result();
    assert.deepEqual(second.json, first.json);
  });

  it('C17 slices are put together in the order of the ranks', async () => {
    const name = `${GATE}.weight`;
    const hooks = [
      { name: 'h', moduleName: GATE },
      { name: 'x', moduleName: GATE, hookType: 'forward_pre' as const },
    ];
    const result = await run({ hooks, runs: [{ inputs: PROMPT }], return: { parameters: [name] } }, 'facts-tp4');
    const [weight, input, output] = [
      await result.tensor('parameters.safetensors', name),
      result.activations({ hook: 'x' })[0]!.tensor(),
      result.activations({ hook: 'h' })[0]!.tensor(),
    ].map((tensor) => tensor.toFloat32());
    for (const column of [0, 127, 128, 300, 511]) {
      const want = input!.subarray(0, 128).reduce((sum, value, k) => sum + value * weight![column * 128 + k]!, 0);
      assert.ok(Math.abs(output![column]! - want) < 1e-4, `column ${column}`);
    }
  });

  it('C18 no tensor is no edit and no error', async () => {
    const hook = { name: 'h', moduleName: 'model.embed_tokens', hookType: 'full_backward' as const };
    const result = await run({
      hooks: [{ ...hook, edit: edit('return inputs * 2') }],
      runs: [{ name: 'r', mode: 'backward', inputs: TWO, loss: LOSS }],
    });
    assert.equal(result.json.hooks[0]!.calls, 0);
    assert.equal(result.activations()[0]!.missing, 'no-tensor');
  });

  it('C19 several deployments work side by side', async () => {
    const slow = edit('import time\ntime.sleep(0.3)\nreturn inputs');
    const job = { hooks: [{ moduleName: GATE, edit: slow }], runs: [{ name: 'r', inputs: TWO, return: ALL }] };
    const results = await Promise.all(['facts-tp1', 'facts-tp2', 'facts-dp2'].map((model) => run(job, model)));
    for (const result of results) assert.ok(maxDifference(result.logits('r'), results[0]!.logits('r')) <= TOLERANCE);
  });

  for (const model of ['facts-tp4', 'facts-dp2', 'facts-pp2-tp2'])
    it(`C20 parameters by name are those of the checkpoint, ${model}`, async () => {
      const stored = readSafetensors(readFileSync(join(TINY_FACTS, 'model.safetensors')));
      const names = [
        'model.embed_tokens.weight',
        `${GATE}.weight`,
        'model.layers.3.mlp.down_proj.weight',
        'lm_head.weight',
      ];
      const result = await run({ runs: [{ inputs: PROMPT }], return: { parameters: names } }, model);
      for (const name of names) {
        const got = await result.tensor('parameters.safetensors', name);
        assert.deepEqual(got.toFloat32(), stored.get(name)!.toFloat32(), name);
      }
    });

  it('C21 integers can be edited in forward_pre', async () => {
    const hook = { moduleName: 'model.embed_tokens', hookType: 'forward_pre' as const };
    const paris = async (text: string, body: string): Promise<Tensor> =>
      (
        await run({
          hooks: [{ ...hook, edit: edit(body) }],
          runs: [{ name: 'r', inputs: { text: [text] }, return: ALL }],
        })
      ).logits('r');
    const france = (await run({ runs: [{ name: 'r', inputs: PROMPT }] })).json.runs['r']!.tokenIds![0]![3]!;
    const swapped = await paris('The capital of Italy is', `inputs[0, 3] = ${france}\nreturn inputs`);
    assert.equal(maxDifference(swapped, await paris('The capital of France is', 'return inputs')), 0);
    assert.ok(maxDifference(swapped, await paris('The capital of Italy is', 'return inputs')) > EFFECT);
  });
});
