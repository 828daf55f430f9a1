/** Documents that are good, and documents with one fault each: what is wrong, with the code and path that must be told. */
import type { ErrorCode } from '../../src/index.js';

type Json = Record<string, unknown>;

/** The smallest document. */
export const SMALLEST: Json = { version: 1, model: 'm', runs: [{ inputs: { text: ['a'] } }] };

const SHA = `sha256:${'0'.repeat(64)}`;

/** The document of the contract, with every kind of everything. */
export const LARGEST: Json = {
  version: 1,
  jobId: 'a-Z_0',
  model: 'tiny-facts',
  seed: 2 ** 32 - 1,
  labels: { experiment: 'capitals' },
  limits: { timeoutMs: 60000, editTimeoutMs: 10000, editMemoryBytes: 2147483648 },
  modules: {
    linear_projection: { kind: 'linear', inFeatures: 512, outFeatures: 512, bias: true, trainable: true },
    low: { kind: 'lowRank', inFeatures: 1, outFeatures: 1, rank: 1 },
    mlp: { kind: 'mlp', inFeatures: 4, hiddenFeatures: 8, outFeatures: 4, activation: 'silu' },
    adapter: { kind: 'python', source: 'def build(): ...' },
    uploaded: { kind: 'python', source: { artifact: SHA }, trainable: false },
  },
  hooks: [
    {
      name: 'svd',
      moduleName: 'model.layers.2.mlp.gate_proj',
      hookType: 'forward',
      expectedShape: [null, null, 512],
      unpackIdx: 0,
      edit: {
        kind: 'python',
        source: 'def edit(current_module, inputs, save_ctx, modules):\n    return inputs',
        entry: 'edit',
      },
      save: 'pre',
      groups: ['svd-study'],
    },
    {
      moduleName: 'model.layers.*',
      edit: { kind: 'none' },
      save: 'post',
      expectedShape: null,
      where: { positions: [-1], rows: [0], steps: [0, 2] },
    },
    { moduleName: 'x', where: { positions: { from: -3, to: 4 } }, edit: { kind: 'python', source: { artifact: SHA } } },
  ],
  runs: [
    {
      name: 'clean',
      mode: 'forward',
      inputs: { text: ['The capital of France is'] },
      hooks: { groups: ['all'] },
      return: { logits: 'last', topK: 5 },
    },
    {
      inputs: { tokenIds: [[5, 9, 31], [4]] },
      hooks: { groups: ['svd-study'], complement: true },
      return: { logits: 'all' },
    },
    {
      name: 'story',
      mode: 'generate',
      inputs: { chat: [[{ role: 'user', content: 'Once' }]] },
      maxNewTokens: 16,
      temperature: 0.7,
      topP: 1,
      hooks: { names: [] },
    },
    {
      mode: 'backward',
      inputs: { tensors: { input: { artifact: SHA } } },
      loss: { kind: 'logitDiff', position: -1, target: ' Paris', foil: 3 },
    },
    {
      mode: 'train',
      inputs: { text: ['a'] },
      loss: { kind: 'nextToken' },
      steps: 20,
      optimizer: { kind: 'adamw', lr: 0.001, weightDecay: 0 },
    },
    { mode: 'backward', inputs: { text: ['a'] }, loss: { kind: 'sumLogits' } },
    {
      mode: 'backward',
      inputs: { text: ['a'] },
      loss: { kind: 'python', source: 'def loss(): ...' },
      hooks: { names: ['svd', 'hook-1'] },
    },
  ],
  return: { parameters: ['model.layers.0.mlp.gate_proj.weight'] },
};

/** Takes a path such as `runs[0].inputs` and puts a value there; undefined removes. */
export function changed(document: Json, path: string, value: unknown): Json {
  const copy = structuredClone(document);
  const parts = path.replaceAll(/\[(\d+)\]/g, '.$1').split('.');
  const last = parts.pop()!;
  let place: Json = copy;
  for (const part of parts) place = place[part] as Json;
  if (value === undefined) delete place[last];
  else place[last] = value;
  return copy;
}

/** One fault: where, which value (undefined: missing), the code, and the path when it is not where the fault was made. */
type Fault = readonly [at: string, value: unknown, code: ErrorCode, path?: string | undefined, hint?: RegExp];

const INVALID = 'PB_DOCUMENT_INVALID';
const UNKNOWN = 'PB_DOCUMENT_UNKNOWN_KEY';

/** Each is made in `LARGEST`. */
export const FAULTS: readonly Fault[] = [
  ['version', undefined, 'PB_DOCUMENT_VERSION'],
  ['version', 2, 'PB_DOCUMENT_VERSION'],
  ['version', '1', 'PB_DOCUMENT_VERSION'],
  ['model', undefined, INVALID],
  ['model', '', INVALID],
  ['model', 3, INVALID],
  ['jobId', 'a b', INVALID],
  ['jobId', 'a:b', INVALID],
  ['jobId', 'a\n', INVALID],
  ['jobId', 'x'.repeat(129), INVALID],
  ['seed', -1, INVALID],
  ['seed', 2 ** 32, INVALID],
  ['seed', 0.5, INVALID],
  ['seed', true, INVALID],
  ['labels.experiment', 3, INVALID],
  ['labels', [], INVALID],
  ['limits.timeoutMs', 0, INVALID],
  ['limits.timeoutMs', null, INVALID],
  ['limits.editMemoryBytes', 1, INVALID],
  ['limits.timeout', 1, UNKNOWN, undefined, /"timeoutMs"/],
  ['modles', {}, UNKNOWN, undefined, /"modules"|"model"/],
  ['hook', [], UNKNOWN, undefined, /"hooks"/],
  ['whatever', 1, UNKNOWN, undefined, /Known keys here: version/],
  ['modules.linear_projection.kind', 'conv', INVALID],
  ['modules.linear_projection.inFeatures', 0, INVALID],
  ['modules.linear_projection.in_features', 1, UNKNOWN, undefined, /"inFeatures"/],
  ['modules.linear_projection.rank', 1, UNKNOWN],
  ['modules.low.rank', undefined, INVALID],
  ['modules.mlp.activation', 'sigmoid', INVALID],
  ['modules.uploaded.source.artifact', 'sha256:12', INVALID],
  ['hooks', {}, INVALID],
  ['hooks[0]', null, INVALID],
  ['hooks[0].moduleName', undefined, INVALID],
  ['hooks[0].module', 'x', UNKNOWN],
  ['hooks[0].moduleNam', 'x', UNKNOWN, undefined, /"moduleName"/],
  ['hooks[0].hookType', 'backward', INVALID],
  ['hooks[0].expectedShape[2]', 0.5, INVALID],
  ['hooks[0].expectedShape[2]', -1, INVALID],
  ['hooks[0].unpackIdx', -1, INVALID],
  ['hooks[0].edit.kind', 'graf', INVALID],
  ['hooks[0].edit.entry', '1x', INVALID],
  ['hooks[0].edit.entry', 'é', INVALID],
  ['hooks[0].edit.source', '', INVALID],
  ['hooks[0].edit.sauce', '', UNKNOWN, undefined, /"source"/],
  ['hooks[0].save', 'both', INVALID],
  ['hooks[0].groups', 'svd', INVALID],
  ['hooks[0].groups[0]', 'a b', INVALID],
  ['hooks[1].where.rows', [], INVALID],
  ['hooks[1].where.rows[0]', -1, INVALID],
  ['hooks[1].where.position', [1], UNKNOWN, undefined, /"positions"/],
  ['hooks[2].where.positions.until', 1, UNKNOWN],
  ['runs', undefined, INVALID],
  ['runs', [], INVALID],
  ['runs[0].inputs', undefined, INVALID],
  ['runs[0].inputs', {}, INVALID],
  ['runs[0].inputs.tokenIds', [[1]], INVALID, 'runs[0].inputs'],
  ['runs[0].inputs.txt', ['a'], UNKNOWN, undefined, /"text"/],
  ['runs[0].inputs.text', [], INVALID],
  ['runs[0].inputs.text[0]', 3, INVALID],
  ['runs[0].mode', 'forwards', INVALID],
  ['runs[0].maxNewTokens', 3, UNKNOWN],
  ['runs[0].hooks.names', ['svd'], INVALID, 'runs[0].hooks'],
  ['runs[0].hooks', { complement: true }, INVALID],
  ['runs[0].hooks', { names: ['svd', 'svdd'] }, 'PB_HOOK_NOT_FOUND', 'runs[0].hooks.names[1]', /"svd"/],
  ['runs[1].hooks.groups[0]', 'svd-studi', 'PB_GROUP_NOT_FOUND', undefined, /"svd-study"/],
  ['runs[0].return.logits', 'first', INVALID],
  ['runs[0].return.topK', 1001, INVALID],
  ['runs[2].temperature', -1, INVALID],
  ['runs[2].topP', 0, INVALID],
  ['runs[2].inputs.chat[0][0].role', 'robot', INVALID],
  ['runs[3].loss', undefined, INVALID],
  ['runs[3].loss.kind', 'mse', INVALID],
  ['runs[3].loss.target', undefined, INVALID],
  ['runs[4].steps', 0, INVALID],
  ['runs[4].optimizer.lr', 0, INVALID],
  ['runs[4].return', {}, UNKNOWN],
  ['runs[2].name', 'clean', INVALID],
  ['hooks[1].name', 'svd', INVALID],
  ['runs[1].name', 'run-3', INVALID, 'runs[3].name'],
  ['hooks[0].name', 'hook-1', INVALID, 'hooks[1].name'],
  ['return.parameters[0]', '', INVALID],
  ['return.params', [], UNKNOWN, undefined, /"parameters"/],
];
