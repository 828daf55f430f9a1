/** One document through the whole stack and under torchrun without it: the same files, byte for byte. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { JobSpec, Patchbay } from '@patchbay/sdk';
import { recordSemantics } from '../support/conformance-table.js';
import { DEPLOYMENTS, ROOT, TINY_FACTS, connect } from '../support/stack.js';

const PYTHON = (body: string): { kind: 'python'; source: string } => ({
  kind: 'python',
  source: `def edit(current_module, inputs, save_ctx, modules):\n    ${body.replaceAll('\n', '\n    ')}\n`,
});
const TWO = { text: ['The capital of France is', 'The capital of'] };
const PROMPT = { text: ['The capital of Italy is'] };

/** Something of everything that becomes a file. */
const DOCUMENT: Omit<JobSpec, 'model'> = {
  seed: 7,
  modules: { adapter: { kind: 'linear', inFeatures: 512, outFeatures: 512 } },
  hooks: [
    { name: 'resid', moduleName: 'model.layers.*', save: 'post', groups: ['read'] },
    { name: 'gate', moduleName: 'model.layers.1.mlp.gate_proj', where: { positions: [-1, 0] }, groups: ['read'] },
    {
      name: 'mix',
      moduleName: 'model.layers.2.mlp.gate_proj',
      edit: PYTHON(
        "print('edit', current_module.run)\nsave_ctx.kept = inputs[:, -1].clone()\nreturn inputs.flip(-1) * 0.5",
      ),
      groups: ['edit'],
    },
    {
      name: 'noise',
      moduleName: 'model.layers.0',
      edit: PYTHON('save_ctx.note = {"run": current_module.run}\nreturn inputs + 0.01 * torch.randn_like(inputs)'),
      groups: ['edit'],
    },
    {
      name: 'adapt',
      moduleName: 'model.layers.1.mlp.up_proj',
      edit: PYTHON("return inputs + 0.1 * modules['adapter'](inputs)"),
      save: 'none',
      groups: ['fit'],
    },
    { name: 'grad', moduleName: 'model.layers.1', hookType: 'full_backward_pre', groups: ['back'] },
    { name: 'weight', moduleName: 'model.layers.0.mlp.down_proj.weight', hookType: 'tensor', groups: ['back'] },
  ],
  runs: [
    { name: 'clean', inputs: TWO, hooks: { groups: ['read'] }, return: { logits: 'all', topK: 3 } },
    { name: 'edited', inputs: TWO, hooks: { groups: ['read', 'edit'] }, return: { logits: 'all' } },
    { name: 'story', mode: 'generate', inputs: TWO, hooks: { groups: ['edit'] }, maxNewTokens: 4, temperature: 1 },
    {
      name: 'back',
      mode: 'backward',
      inputs: TWO,
      hooks: { groups: ['back'] },
      loss: { kind: 'logitDiff', target: ' Paris', foil: ' Rome' },
    },
    {
      name: 'fit',
      mode: 'train',
      inputs: PROMPT,
      hooks: { groups: ['fit'] },
      loss: { kind: 'nextToken' },
      steps: 2,
      optimizer: { kind: 'adam', lr: 0.01 },
    },
  ],
  return: { parameters: ['model.layers.0.mlp.gate_proj.weight', 'model.norm.weight'] },
};
const FILES = ['activations', 'gradients', 'modules', 'outputs', 'parameters', 'save_ctx'];

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function torchrun(document: object, mesh: Readonly<Record<string, number>>, out: string): Promise<void> {
  const job = join(out, 'job.json');
  writeFileSync(job, JSON.stringify({ version: 1, ...document }));
  const ranks = Object.values(mesh).reduce((product, size) => product * size, 1);
  const launch = [
    '-m',
    'torch.distributed.run',
    '--nproc-per-node',
    String(ranks),
    `--master-port=${await freePort()}`,
  ];
  const axes = Object.entries(mesh).flatMap(([axis, size]) => [`--${axis}`, String(size)]);
  await promisify(execFile)(
    join(ROOT, '.venv/bin/python'),
    [...launch, '-m', 'patchbay_worker.engine', '--model', TINY_FACTS, ...axes, '--job', job, '--out', out],
    { env: { ...process.env, OMP_NUM_THREADS: '1', PYTHONHASHSEED: '0' }, timeout: 110_000 },
  );
}

interface Written {
  readonly hooks: readonly Record<string, unknown>[];
  readonly [field: string]: unknown;
}

/** What a result says of the computation: not when, where and how fast. */
function facts(folder: string): object {
  const { runs, activations, saveCtx, warnings, hooks } = JSON.parse(
    readFileSync(join(folder, 'result.json'), 'utf8'),
  ) as Written;
  const reports = hooks.map((report) =>
    Object.fromEntries(Object.entries(report).filter(([name]) => !name.endsWith('Ms'))),
  );
  return { runs, activations, saveCtx, warnings, hooks: reports };
}

describe('the stack and torchrun', () => {
  let client: Patchbay;
  let folder: string;
  before(() => {
    client = connect();
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'pb-torchrun-'));
  });
  afterEach(function () {
    rmSync(folder, { recursive: true, force: true });
    if (this.currentTest?.state === 'passed') recordSemantics(this.currentTest.title);
  });
  after(() => client.close());

  it('the same files byte for byte under torchrun, facts-pp2-tp2', async () => {
    const deployment = 'facts-pp2-tp2';
    const [stack, disk] = ['stack', 'disk'].map((name) => mkdtempSync(join(folder, `${name}-`)));
    const document = { ...DOCUMENT, model: deployment };
    const job = await client.jobs.submit(document);
    await (await job.result()).download(stack!);
    await torchrun(document, DEPLOYMENTS[deployment], disk!);
    const names = FILES.map((name) => `${name}.safetensors`);
    assert.deepEqual(
      readdirSync(stack!)
        .filter((name) => name.endsWith('.safetensors'))
        .sort(),
      names,
    );
    for (const name of [...names, 'logs.txt'])
      assert.ok(readFileSync(join(stack!, name)).equals(readFileSync(join(disk!, name))), name);
    assert.deepEqual(facts(stack!), facts(disk!));
  });
});
