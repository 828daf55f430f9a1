/** From hook objects to the job document. */
import assert from 'node:assert/strict';
import { ALONG, BINARY, parseJobDocument, UNARY } from '@patchbay/protocol';
import { graph, HookFunction, job, linear, lowRank, mlp, pythonModule, type JobSpec } from '../src/index.js';
import { dedent } from '../src/jobs/dedent.js';
import { thrown } from './support/thrown.js';

const inputs = { text: ['a'] };
const at = (moduleName: string, more: object = {}): HookFunction => new HookFunction({ moduleName, ...more });
const selections = (spec: JobSpec): unknown[] => job(spec).runs.map((run) => run.hooks);

describe('job()', () => {
  it('makes the document of the contract', () => {
    const hook = new HookFunction({
      moduleName: 'model.layers.2.mlp.gate_proj',
      expectedShape: [null, null, 512],
      editingFunction: `
        def edit(current_module, inputs, save_ctx, modules):
            return modules["linear_projection"](inputs)
      `,
      groups: ['study'],
      where: { positions: [-1] },
    });
    const document = job({
      model: 'tiny-facts',
      modules: { linear_projection: linear(512, 512) },
      runs: [{ name: 'clean', inputs, hooks: [hook], return: { topK: 5 } }],
    });
    assert.deepEqual(document, {
      version: 1,
      model: 'tiny-facts',
      modules: { linear_projection: { kind: 'linear', inFeatures: 512, outFeatures: 512 } },
      hooks: [
        {
          name: 'hook-0',
          moduleName: 'model.layers.2.mlp.gate_proj',
          expectedShape: [null, null, 512],
          edit: {
            kind: 'python',
            source:
              'def edit(current_module, inputs, save_ctx, modules):\n    return modules["linear_projection"](inputs)\n',
          },
          groups: ['study'],
          where: { positions: [-1] },
        },
      ],
      runs: [{ name: 'clean', inputs, hooks: { names: ['hook-0'] }, return: { topK: 5 } }],
    });
    assert.deepEqual(parseJobDocument(document).hooks[0]?.save, 'pre');
  });

  it('a hook that several runs list is one hook', () => {
    const [a, b] = [at('m.a', { name: 'first' }), at('m.b')];
    const document = job({
      model: 'm',
      runs: [
        { inputs, hooks: [a, b] },
        { inputs, hooks: [b] },
        { inputs, hooks: [] },
      ],
    });
    assert.deepEqual(
      document.hooks?.map((hook) => hook.name),
      ['first', 'hook-1'],
    );
    assert.deepEqual(
      document.runs.map((run) => run.hooks),
      [{ names: ['first', 'hook-1'] }, { names: ['hook-1'] }, { names: [] }],
    );
  });

  it('hooks listed in a run are on in that run only', () => {
    const [own, inline] = [at('m.own'), at('m.inline')];
    const runs: JobSpec['runs'] = [{ inputs }, { inputs, hooks: [inline] }, { inputs, hooks: { groups: ['all'] } }];
    assert.deepEqual(selections({ model: 'm', hooks: [own], runs }), [
      { names: ['hook-0'] },
      { names: ['hook-1'] },
      { groups: ['all'] },
    ]);
    assert.deepEqual(selections({ model: 'm', hooks: [own], runs: [{ inputs }, { inputs, hooks: [own] }] }), [
      undefined,
      { names: ['hook-0'] },
    ]);
  });

  it('plain documents pass through, also broken ones', async () => {
    const document = {
      version: 1,
      model: 'm',
      hooks: [{ moduleName: 'x' }],
      runs: [{ inputs, hooks: { groups: ['all'] } }],
    } as const;
    assert.deepEqual(job(document), document);
    for (const broken of [
      { model: 'm', runs: null },
      { model: 'm', hooks: 3, runs: [] },
      { model: 'm', runs: [null] },
      { model: 'm', hooks: [null], runs: [{ inputs }] },
    ]) {
      await thrown(() => parseJobDocument(job(broken as unknown as JobSpec)), 'PB_DOCUMENT_INVALID');
    }
    await thrown(
      () => parseJobDocument(job({ version: 2, model: 'm', runs: [{ inputs }] } as unknown as JobSpec)),
      'PB_DOCUMENT_VERSION',
    );
    await thrown(
      () => new HookFunction({ moduleName: 'x', edit: { kind: 'none' }, editingFunction: 'x' }),
      'PB_DOCUMENT_INVALID',
    );
  });

  it('builds modules', () => {
    assert.deepEqual(lowRank(4, 4, 2), { kind: 'lowRank', inFeatures: 4, outFeatures: 4, rank: 2 });
    assert.deepEqual(mlp(4, 8, 4, { activation: 'relu', trainable: false }), {
      kind: 'mlp',
      inFeatures: 4,
      hiddenFeatures: 8,
      outFeatures: 4,
      activation: 'relu',
      trainable: false,
    });
    assert.deepEqual(pythonModule('\n  def build():\n    return 1\n'), {
      kind: 'python',
      source: 'def build():\n  return 1\n',
    });
  });
});

describe('dedent', () => {
  const check = (source: string, expected: string): void => assert.equal(dedent(source), expected);

  it('takes the common indentation and the first empty line away', () => {
    check('\n    def f():\n        return 1\n    ', 'def f():\n    return 1\n');
    check('def f():\n    return 1', 'def f():\n    return 1\n');
    check('\n\tdef f():\n\t\treturn 1\n', 'def f():\n\treturn 1\n');
    check('\n  a\n\n  b\n', 'a\n\nb\n');
    check('\n    a\n  b\n', '  a\nb\n');
    check('', '\n');
  });
});

describe('graph()', () => {
  const v = { artifact: `sha256:${'0'.repeat(64)}` };
  const checked = (edit: ReturnType<typeof graph>): unknown =>
    parseJobDocument({ version: 1, model: 'm', hooks: [{ moduleName: 'a', edit }], runs: [{ inputs }] }).hooks[0]?.edit;

  it('writes an expression as steps, what is shared once', () => {
    const edit = graph(
      (x, { v }) => {
        const unit = v.div(v.norm(-1));
        return x.sub(x.mul(unit).sum(-1).mul(unit));
      },
      { v },
    );
    assert.deepEqual(edit, {
      kind: 'graph',
      tensors: { v },
      steps: [
        { op: 'norm', args: ['v'], dim: -1, as: '_0' },
        { op: 'div', args: ['v', '_0'], as: '_1' },
        { op: 'mul', args: ['x', '_1'], as: '_2' },
        { op: 'sum', args: ['_2'], dim: -1, as: '_3' },
        { op: 'mul', args: ['_3', '_1'], as: '_4' },
        { op: 'sub', args: ['x', '_4'] },
      ],
    });
    assert.deepEqual(checked(edit), edit);
  });

  it('has a method for every operation, with the options that the document takes', () => {
    const built = graph((x) => {
      const unary = [
        x.abs(),
        x.neg(),
        x.sign(),
        x.square(),
        x.sqrt(),
        x.rsqrt(),
        x.exp(),
        x.log(),
        x.sigmoid(),
        x.tanh(),
      ];
      const more = [x.relu(), x.gelu(), x.silu(), x.pow(2), x.minimum(1), x.maximum(x), x.clamp({ min: 0 }), x.div(2)];
      const along = [x.sum(-1), x.mean(-1), x.amax(-1), x.amin(-1), x.norm(-1), x.softmax(-1), x.cumsum(-1)];
      const shaped = [
        x.matmul(x),
        x.fill(-1, [0]),
        x.unflatten(-1, [2, 2]).flatten(-2),
        x.expand(),
        x.sub(1),
        x.mul(2),
      ];
      const on = [x.eq(0), x.ne(0), x.lt(0), x.le(0), x.gt(0), x.ge(0), x.isnan(), x.isnan().logicalNot()];
      const chosen = on.reduce((a, b) => a.logicalAnd(b).logicalOr(b)).where(x, 0);
      return [...unary, ...more, ...along, ...shaped].reduce((a, b) => a.add(b), chosen);
    });
    const ops = new Set(built.steps.map((step) => step.op));
    const all = [...UNARY, ...BINARY, ...ALONG, 'where', 'clamp', 'matmul', 'fill', 'unflatten', 'flatten', 'expand'];
    assert.deepEqual([...ops].sort(), [...all].sort());
    assert.deepEqual(checked(built), built);
  });

  it('gives steps other names than the tensors have', () => {
    const edit = graph((x, { _0 }) => x.mul(_0).add(_0), { _0: v });
    assert.deepEqual(
      edit.steps.map((step) => step.as),
      ['__0', undefined],
    );
    assert.deepEqual(checked(edit), edit);
  });

  it('refuses one that computes nothing', async () => {
    await thrown(() => graph((x) => x), 'PB_DOCUMENT_INVALID');
  });
});
