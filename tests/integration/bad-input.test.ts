/** Every bad input gets its typed error, and the next job on the same deployment is right. */
import assert from 'node:assert/strict';
import { isPatchbayError, type ErrorCode, type PatchbayError } from '@patchbay/protocol';
import type { JobSpec, Patchbay } from '@patchbay/sdk';
import { makeCheckpoint } from '../support/checkpoint.js';
import { connect, deploymentOf } from '../support/stack.js';

const PROMPT = { text: ['The capital of France is'] };
const edit = (body: string): object => ({
  moduleName: 'model.layers.1.mlp.gate_proj',
  edit: { kind: 'python', source: `def edit(current_module, inputs, save_ctx, modules):\n    ${body}\n` },
});
const withHook = (hook: object, more: object = {}): object => ({ hooks: [hook], runs: [{ inputs: PROMPT }], ...more });
const withInputs = (inputs: object): object => ({ runs: [{ inputs }] });

interface Bad {
  readonly name: string;
  readonly document: object;
  readonly code: ErrorCode;
  /** Where in the document the fault is. */
  readonly path?: string;
  /** What the message or the hint must name. */
  readonly says?: RegExp;
  /** Line in the user's own source. */
  readonly line?: number;
}

const BAD: readonly Bad[] = [
  {
    name: 'an unknown module',
    document: withHook({ moduleName: 'model.layers.1.mlp.gate_prj' }),
    code: 'PB_HOOK_MODULE_NOT_FOUND',
    path: 'hooks[0].moduleName',
    says: /model\.layers\.1\.mlp\.gate_proj/,
  },
  {
    name: 'an unknown key',
    document: withInputs({ txt: ['x'] }),
    code: 'PB_DOCUMENT_UNKNOWN_KEY',
    path: 'runs[0].inputs.txt',
    says: /text/,
  },
  {
    name: 'a wrong version',
    document: { version: 7, ...withInputs(PROMPT) },
    code: 'PB_DOCUMENT_VERSION',
    path: 'version',
  },
  {
    name: 'a wrong expectedShape',
    document: withHook({ moduleName: 'model.layers.1.mlp.gate_proj', expectedShape: [null, null, 511] }),
    code: 'PB_SHAPE_MISMATCH',
    path: 'hooks[0].expectedShape',
    says: /512/,
  },
  {
    name: 'an expectedShape of the wrong rank',
    document: withHook({ moduleName: 'model.layers.1', expectedShape: [null, 128] }),
    code: 'PB_SHAPE_MISMATCH',
    path: 'hooks[0].expectedShape',
  },
  {
    name: 'an unpackIdx that is not there',
    document: withHook({ moduleName: 'model.layers.1.mlp', unpackIdx: 4 }),
    code: 'PB_UNPACK_INDEX',
    path: 'hooks[0].unpackIdx',
  },
  {
    name: 'a hook of gradients without a run that computes them',
    document: withHook({ moduleName: 'model.layers.1', hookType: 'full_backward' }),
    code: 'PB_GRADIENT_NEEDS_BACKWARD',
    path: 'hooks[0].hookType',
  },
  {
    name: 'a loss at a position that no prompt has',
    document: { runs: [{ mode: 'backward', inputs: PROMPT, loss: { kind: 'sumLogits', position: 40 } }] },
    code: 'PB_LOSS_INVALID',
    path: 'runs[0].loss.position',
  },
  {
    name: 'an edit that raises',
    document: withHook(edit('x = 1\n    raise ValueError("no such head")')),
    code: 'PB_EDIT_FAILED',
    says: /ValueError.*no such head/,
    line: 3,
  },
  { name: 'an edit with a syntax error', document: withHook(edit('return (')), code: 'PB_EDIT_SYNTAX' },
  {
    name: 'a source without edit',
    document: withHook({
      moduleName: 'model.layers.1',
      edit: { kind: 'python', source: 'def edt(a, b, c, d):\n    return b\n' },
    }),
    code: 'PB_EDIT_ENTRY_MISSING',
    says: /edit/,
  },
  { name: 'an edit returning another shape', document: withHook(edit('return inputs[:, :1]')), code: 'PB_EDIT_SHAPE' },
  {
    name: 'an edit returning another dtype',
    document: withHook(edit('return inputs.double()')),
    code: 'PB_EDIT_DTYPE',
    says: /float64/,
  },
  { name: 'an edit returning None', document: withHook(edit('pass')), code: 'PB_EDIT_RETURNED_NONE' },
  {
    name: 'an edit looping forever',
    document: withHook(edit('while True: pass'), { limits: { editTimeoutMs: 1000 } }),
    code: 'PB_EDIT_TIMEOUT',
  },
  {
    name: 'an edit eating memory',
    document: withHook(edit('return torch.ones(20_000_000_000)')),
    code: 'PB_EDIT_MEMORY',
  },
  { name: 'an edit ending its process', document: withHook(edit('import os; os._exit(3)')), code: 'PB_EDIT_CRASHED' },
  {
    name: 'an empty prompt',
    document: withInputs({ text: ['The capital', ''] }),
    code: 'PB_PROMPT_EMPTY',
    path: 'runs[0].inputs.text[1]',
  },
  {
    name: 'an empty list of tokens',
    document: withInputs({ tokenIds: [[]] }),
    code: 'PB_PROMPT_EMPTY',
    path: 'runs[0].inputs.tokenIds[0]',
  },
  {
    name: 'a token out of the vocabulary',
    document: withInputs({ tokenIds: [[5, 100_000]] }),
    code: 'PB_TOKEN_OUT_OF_RANGE',
    path: 'runs[0].inputs.tokenIds[0][1]',
  },
  {
    name: 'a negative token',
    document: withInputs({ tokenIds: [[-1]] }),
    code: 'PB_TOKEN_OUT_OF_RANGE',
    path: 'runs[0].inputs.tokenIds[0][0]',
  },
  {
    name: 'a prompt longer than the context',
    document: withInputs({ tokenIds: [Array.from({ length: 2000 }, () => 5)] }),
    code: 'PB_PROMPT_TOO_LONG',
    path: 'runs[0].inputs.tokenIds[0]',
  },
  {
    name: 'a generation longer than the context',
    document: { runs: [{ mode: 'generate', inputs: PROMPT, maxNewTokens: 5000 }] },
    code: 'PB_PROMPT_TOO_LONG',
  },
  {
    name: 'an empty selection',
    document: withHook({ moduleName: 'model.layers.1', where: { positions: [40] } }),
    code: 'PB_WHERE_EMPTY',
    path: 'hooks[0].where.positions[0]',
  },
  {
    name: 'a row that is not there',
    document: withHook({ moduleName: 'model.layers.1', where: { rows: [3] } }),
    code: 'PB_WHERE_EMPTY',
    path: 'hooks[0].where.rows',
  },
  {
    name: 'a document over 64 KiB',
    document: {
      ...withInputs(PROMPT),
      labels: Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`label-${i}`, 'x'.repeat(200)])),
    },
    code: 'PB_DOCUMENT_TOO_LARGE',
  },
  {
    name: 'an artifact that is missing',
    document: withHook({
      moduleName: 'model.layers.1',
      edit: { kind: 'python', source: { artifact: `sha256:${'0'.repeat(64)}` } },
    }),
    code: 'PB_ARTIFACT_NOT_FOUND',
    says: /0000/,
  },
];

describe('bad input', () => {
  let client: Patchbay;
  before(() => {
    client = connect();
  });
  after(() => client.close());

  /** The right answer, again and again: a bad job must not have disturbed the ranks. */
  const assertHealthy = async (model: string): Promise<void> => {
    const job = await client.jobs.submit({
      version: 1,
      model,
      runs: [{ name: 'r', inputs: PROMPT, return: { topK: 1 } }],
    });
    const result = await job.result({ timeoutMs: 30_000 });
    assert.equal(result.json.runs['r']?.topK?.[0]?.[0]?.token, ' Paris');
  };

  const failure = async (document: object): Promise<PatchbayError> => {
    try {
      const job = await client.jobs.submit(document as JobSpec);
      await job.result({ timeoutMs: 60_000 });
    } catch (cause) {
      if (isPatchbayError(cause)) return cause;
      throw cause;
    }
    throw new Error('the job completed');
  };

  for (const tp of [1, 2] as const) {
    for (const bad of BAD) {
      it(`${bad.name}, tp ${tp}`, async () => {
        const model = deploymentOf(tp);
        const found = await failure({ version: 1, model, ...bad.document });
        assert.equal(found.code, bad.code, JSON.stringify(found));
        if (bad.path !== undefined) assert.equal(found.path, bad.path);
        if (bad.says !== undefined) assert.match(`${found.message} ${found.hint ?? ''}`, bad.says);
        if (bad.line !== undefined) assert.equal(found.remote?.line, bad.line);
        await assertHealthy(model);
      });
    }
  }

  it('an unknown deployment, with near names', async () => {
    const found = await failure({ version: 1, model: 'facts-tp3', ...withInputs(PROMPT) });
    assert.equal(found.code, 'PB_MODEL_NOT_FOUND');
    assert.match(found.hint ?? '', /facts-tp[124]/);
  });

  it('a job id twice: the same document gives the first job, another one is refused', async () => {
    const document = { version: 1 as const, model: deploymentOf(1), runs: [{ inputs: PROMPT }] };
    const jobId = `twice-${Date.now()}`;
    const first = await client.jobs.submit(document, { jobId });
    await first.result();
    const again = await client.jobs.submit(document, { jobId });
    assert.equal(again.id, first.id);
    assert.equal((await again.status()).attempt, 1);
    await assert.rejects(client.jobs.submit({ ...document, seed: 5 }, { jobId }), { code: 'PB_JOB_ID_CONFLICT' });
  });

  it('more than one rank for a model without a tensor-parallel plan', async () => {
    const folder = makeCheckpoint('gpt2');
    const deploying = client.models.deploy({ name: 'no-plan', model: folder, tp: 2 });
    await assert.rejects(async () => deploying, { code: 'PB_NOT_SHARDABLE' });
    await assertHealthy(deploymentOf(2));
  });

  it('a model that is not there', async () => {
    const deploying = client.models.deploy({ name: 'nowhere', model: '/nowhere/at/all', tp: 1 });
    await assert.rejects(async () => deploying, { code: 'PB_MODEL_LOAD_FAILED' });
  });
});
