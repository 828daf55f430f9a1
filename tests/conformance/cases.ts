/** What is compared with plain torch hooks: one entry per kind of hook site and edit. Data only. */
import { graph, type GraphTensor, type JobSpec } from '@patchbay/sdk';

/** fp32 on gloo: only the order of the sums of two row-parallel maps per layer may differ. */
export const TOLERANCE = 2e-5;

export interface Case {
  readonly name: string;
  readonly document: Omit<JobSpec, 'model'>;
  /** Runs whose logits an edit must have changed against the same inputs without hooks. */
  readonly edited: readonly string[];
}

const PROMPT = { text: ['The capital of France is'] };
const TWO = { text: ['The capital of France is', 'The capital of Italy is'] };
const RETURN = { logits: 'all' as const };

/** Not pointwise: every output column depends on all columns, so a wrong order of slices shows. */
const MIX =
  'def edit(current_module, inputs, save_ctx, modules):\n    return inputs.flip(-1) * 0.5 + inputs.cumsum(-1) * 0.01\n';
const SCALE = 'def edit(current_module, inputs, save_ctx, modules):\n    return inputs * 1.5 + 0.1\n';
const python = (source: string): { kind: 'python'; source: string } => ({ kind: 'python', source });

/** Pointwise: every rank can compute its own part of a tensor that is cut. */
const GATED = (x: GraphTensor): GraphTensor => x.gt(0.1).where(x.mul(1.5), x.tanh().sub(0.2));
/** Along the last dim, and by heads: where that is cut, the root computes it on the whole tensor. */
const CENTRED = (x: GraphTensor): GraphTensor => x.sub(x.mean(-1)).add(x.softmax(-1));
const WITHOUT_A_HEAD = (x: GraphTensor): GraphTensor => x.unflatten(-1, [4, 32]).fill(-2, [1]).flatten(-2);

function drawn(name: string, moduleName: string, build: (x: GraphTensor) => GraphTensor, more: object = {}): Case {
  return {
    name,
    document: {
      hooks: [{ name: 'h', moduleName, edit: graph(build), save: 'post', ...more }],
      runs: [{ name: 'r', inputs: TWO, return: RETURN }],
    },
    edited: ['r'],
  };
}

function site(name: string, moduleName: string, source: string, more: object = {}): Case {
  return {
    name,
    document: {
      hooks: [{ name: 'h', moduleName, edit: python(source), ...more }],
      runs: [{ name: 'r', inputs: TWO, return: RETURN }],
    },
    edited: ['r'],
  };
}

export const CASES: readonly Case[] = [
  site('edit of a column-parallel output', 'model.layers.2.mlp.gate_proj', MIX, { expectedShape: [null, null, 512] }),
  site('edit of q_proj, k_proj and v_proj', 'model.layers.1.self_attn.[qkv]_proj', SCALE),
  site('edit of the activation function between the two maps', 'model.layers.1.mlp.act_fn', MIX),
  site('edit of a row-parallel input', 'model.layers.1.mlp.down_proj', MIX, {
    hookType: 'forward_pre',
    expectedShape: [null, null, 512],
  }),
  site('edit of the attention output projection input', 'model.layers.0.self_attn.o_proj', MIX, {
    hookType: 'forward_pre',
  }),
  site('edit of a row-parallel output', 'model.layers.1.mlp.down_proj', MIX),
  site('edit of the residual stream', 'model.layers.1', MIX),
  site('edit of every layer', 'model.layers.*', SCALE),
  site('edit of an attention block called by keywords', 'model.layers.2.self_attn', SCALE, { hookType: 'forward_pre' }),
  site('edit of the embedding', 'model.embed_tokens', MIX),
  site('edit of a norm', 'model.layers.3.post_attention_layernorm', SCALE),
  site('edit of the logits', 'lm_head', MIX),
  site(
    'edit of token ids',
    'model.embed_tokens',
    'def edit(current_module, inputs, save_ctx, modules):\n    return inputs.roll(1, dims=-1)\n',
    {
      hookType: 'forward_pre',
    },
  ),
  site('edit at chosen positions', 'model.layers.0', SCALE, { where: { positions: [1, -1] } }),
  site('edit of chosen rows', 'model.layers.0.mlp.up_proj', MIX, { where: { rows: [1] } }),
  drawn('graph edit of a column-parallel output', 'model.layers.2.mlp.gate_proj', GATED),
  drawn('graph edit along a cut dim', 'model.layers.2.mlp.gate_proj', CENTRED),
  drawn('graph edit of the residual stream', 'model.layers.*', CENTRED),
  drawn('graph edit by heads', 'model.layers.1.self_attn.o_proj', WITHOUT_A_HEAD, { hookType: 'forward_pre' }),
  drawn('graph edit at chosen positions', 'model.layers.1.mlp.up_proj', GATED, { where: { positions: [1, -1] } }),
  {
    name: 'reads before and after, sharded and replicated',
    document: {
      hooks: [
        { name: 'resid', moduleName: 'model.layers.*', save: 'post' },
        { name: 'gate', moduleName: 'model.layers.*.mlp.gate_proj' },
        { name: 'z', moduleName: 'model.layers.*.self_attn.o_proj', hookType: 'forward_pre' },
        { name: 'norm', moduleName: 'model.norm' },
      ],
      runs: [{ name: 'r', inputs: TWO, return: RETURN }],
    },
    edited: [],
  },
  {
    name: 'two hooks on one module, in order',
    document: {
      hooks: [
        { name: 'first', moduleName: 'model.layers.1.mlp.up_proj', edit: python(MIX), save: 'post' },
        { name: 'second', moduleName: 'model.layers.1.mlp.up_proj', edit: python(SCALE), save: 'pre' },
      ],
      runs: [{ name: 'r', inputs: PROMPT, return: RETURN }],
    },
    edited: ['r'],
  },
  {
    name: "FlexModel's example: svd into save_ctx, torch.where, a projection from modules",
    document: {
      modules: { linear_projection: { kind: 'linear', inFeatures: 512, outFeatures: 512 } },
      hooks: [
        {
          name: 'svd',
          moduleName: 'model.layers.2.mlp.gate_proj',
          expectedShape: [null, null, 512],
          edit: python(
            'def edit(current_module, inputs, save_ctx, modules):\n    _, s, _ = torch.svd(inputs)\n    save_ctx.activation_singular_values = s\n' +
              "    inputs = torch.where(inputs > 1.0, inputs, 0.0)\n    return modules['linear_projection'](inputs)\n",
          ),
        },
      ],
      runs: [{ name: 'r', inputs: PROMPT, return: RETURN }],
    },
    edited: ['r'],
  },
  {
    name: 'a value carried from one run to the next',
    document: {
      hooks: [
        {
          name: 'keep',
          moduleName: 'model.layers.0',
          groups: ['keep'],
          edit: python(
            'def edit(current_module, inputs, save_ctx, modules):\n    save_ctx.kept = inputs.clone()\n    return inputs\n',
          ),
        },
        {
          name: 'put',
          moduleName: 'model.layers.0',
          groups: ['put'],
          where: { positions: [3] },
          edit: python('def edit(current_module, inputs, save_ctx, modules):\n    return save_ctx.kept[:, 3:4]\n'),
        },
      ],
      runs: [
        { name: 'a', inputs: PROMPT, hooks: { groups: ['keep'] }, return: RETURN },
        { name: 'b', inputs: { text: ['The capital of Italy is'] }, hooks: { groups: ['put'] }, return: RETURN },
      ],
    },
    edited: ['b'],
  },
  {
    name: 'gradients of activations and parameters, through an edit',
    document: {
      hooks: [
        { name: 'edit', moduleName: 'model.layers.2.mlp.gate_proj', edit: python(MIX), save: 'none' },
        { name: 'resid', moduleName: 'model.layers.*', hookType: 'full_backward_pre' },
        { name: 'gate', moduleName: 'model.layers.1.mlp.gate_proj', hookType: 'full_backward_pre' },
        { name: 'z', moduleName: 'model.layers.1.self_attn.o_proj', hookType: 'full_backward' },
        { name: 'weight', moduleName: 'model.layers.0.mlp.down_proj.weight', hookType: 'tensor' },
      ],
      runs: [
        {
          name: 'r',
          mode: 'backward',
          inputs: TWO,
          loss: { kind: 'logitDiff', target: ' Paris', foil: ' Rome' },
          return: RETURN,
        },
      ],
    },
    edited: ['r'],
  },
  {
    name: 'an edit of a gradient',
    document: {
      hooks: [
        { name: 'halve', moduleName: 'model.layers.2.mlp.up_proj', hookType: 'full_backward_pre', edit: python(MIX) },
        { name: 'resid', moduleName: 'model.layers.0', hookType: 'full_backward_pre' },
      ],
      runs: [{ name: 'r', mode: 'backward', inputs: TWO, loss: { kind: 'nextToken' }, return: RETURN }],
    },
    edited: [],
  },
  {
    name: 'a module trained through the model',
    document: {
      seed: 5,
      modules: { adapter: { kind: 'linear', inFeatures: 512, outFeatures: 512 } },
      hooks: [
        {
          name: 'adapt',
          moduleName: 'model.layers.1.mlp.gate_proj',
          edit: python(
            "def edit(current_module, inputs, save_ctx, modules):\n    return inputs + modules['adapter'](inputs)\n",
          ),
          save: 'none',
        },
      ],
      runs: [
        {
          name: 'fit',
          mode: 'train',
          inputs: TWO,
          loss: { kind: 'nextToken' },
          steps: 4,
          optimizer: { kind: 'sgd', lr: 0.05 },
        },
        { name: 'r', inputs: TWO, return: RETURN },
      ],
    },
    edited: ['r'],
  },
  {
    name: 'steered generation',
    document: {
      hooks: [{ name: 'steer', moduleName: 'model.layers.1', edit: python(SCALE), save: 'pre' }],
      runs: [{ name: 'g', mode: 'generate', inputs: PROMPT, maxNewTokens: 6 }],
    },
    edited: [],
  },
];
