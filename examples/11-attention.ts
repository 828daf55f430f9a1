/**
 * Attention patterns of a layer, from its queries and keys: the ranks' fused kernel never makes them, so an edit does, with the
 * model's own rotation of positions. One pattern per head, saved as [heads, from, to].
 */
import { heatmap, toSvg } from '@patchbay/charts';
import { HookFunction, type Patchbay } from '@patchbay/sdk';
import { script } from './script.js';

const PROMPT = 'The capital of France is';

export interface Attention {
  readonly tokens: readonly string[];
  /** [head][from][to] */
  readonly heads: readonly (readonly (readonly number[])[])[];
}

export interface Shape {
  readonly layer: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly ropeTheta?: number;
}

/** Keys come after queries in a Llama layer, so the pattern is made in the hook of the keys. */
export function attentionHooks({ layer, heads, keyHeads, ropeTheta = 10_000 }: Shape): HookFunction[] {
  const at = `model.layers.${layer}.self_attn`;
  return [
    new HookFunction({
      name: 'queries',
      moduleName: `${at}.q_proj`,
      save: 'none',
      editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    save_ctx["_queries"] = inputs
    return inputs
`,
    }),
    new HookFunction({
      name: 'keys',
      moduleName: `${at}.k_proj`,
      save: 'none',
      editingFunction: `
def rotate(x):
    half = x.shape[-1] // 2
    frequency = ${ropeTheta} ** (-torch.arange(half, dtype=torch.float32) / half)
    angle = torch.arange(x.shape[-2], dtype=torch.float32)[:, None] * frequency
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

def heads(x, count):
    return rotate(x.float().unflatten(-1, (count, -1)).transpose(1, 2))

def edit(current_module, inputs, save_ctx, modules):
    queries, keys = heads(save_ctx["_queries"], ${heads}), heads(inputs, ${keyHeads})
    keys = keys.repeat_interleave(${heads / keyHeads}, dim=1)
    scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    save_ctx["attention.layer-${layer}"] = scores.masked_fill(future, float("-inf")).softmax(-1)[0]
    return inputs
`,
    }),
  ];
}

export async function attention(pb: Patchbay, model: string, shape: Shape, prompt = PROMPT): Promise<Attention> {
  const job = await pb.jobs.submit({
    model,
    runs: [{ name: 'clean', inputs: { text: [prompt] }, hooks: attentionHooks(shape) }],
  });
  const result = await job.result();
  const tensor = result.saveCtx.tensor(`attention.layer-${shape.layer}`);
  const [count = 0, from = 0] = tensor.shape;
  const row = (head: number, at: number): number[] => Array.from(tensor.slice(head, at).toFloat32());
  return {
    tokens: result.runs['clean']!.tokens![0]!,
    heads: Array.from({ length: count }, (_, head) => Array.from({ length: from }, (_, at) => row(head, at))),
  };
}

script(import.meta.url, async (pb, model) => {
  const { tokens, heads } = await attention(pb, model, { layer: 2, heads: 8, keyHeads: 4 });
  const strongest = heads.map((pattern) => {
    const last = pattern.at(-1)!;
    const at = last.indexOf(Math.max(...last));
    return `${JSON.stringify(tokens[at])} ${last[at]!.toFixed(2)}`;
  });
  const pictures = heads.map((values, head) => [
    `attention-head-${head}`,
    toSvg(
      heatmap({ title: `Layer 2, head ${head}`, rows: tokens, columns: tokens, values, domain: { low: 0, high: 1 } }),
    ),
  ]);
  const text = strongest.map((best, head) => `head ${head}: the last token looks at ${best}`).join('\n');
  return { text, pictures: Object.fromEntries(pictures) as Record<string, string> };
});
