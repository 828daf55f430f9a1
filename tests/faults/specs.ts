/** The jobs that faults meet: each has an effect that can be counted and an answer that is the same every time. */
import { HookFunction, type JobResult, type JobSpec } from '@patchbay/sdk';

export const KINDS = ['short', 'slow edit', 'generation', 'collectives', 'large'] as const;
export type Kind = (typeof KINDS)[number];

const TEXT = ['The capital of France is'];
const TOKENS = 150;
/** Rows of 250 tokens: some 80 MB of captures, which take a while to write. */
const ROWS = 32;

const counting = (moduleName: string, before = ''): HookFunction =>
  new HookFunction({
    moduleName,
    editingFunction: `
import time
def edit(current_module, inputs, save_ctx, modules):
    ${before}
    save_ctx.effects = getattr(save_ctx, "effects", 0) + 1
    return inputs * 0.5`,
  });

const reading = (moduleName: string): HookFunction => new HookFunction({ moduleName, save: 'post' });

const SPECS: Record<Kind, (model: string) => JobSpec> = {
  short: (model) => ({ model, runs: [{ inputs: { text: TEXT }, return: { topK: 1 } }] }),
  'slow edit': (model) => ({
    model,
    runs: [
      {
        inputs: { text: TEXT },
        hooks: [counting('model.layers.2.mlp.gate_proj', 'time.sleep(1.0)')],
        return: { topK: 1 },
      },
    ],
  }),
  generation: (model) => ({
    model,
    runs: [{ mode: 'generate', inputs: { text: TEXT }, maxNewTokens: TOKENS }],
  }),
  // four gathers and scatters a token, beside the collectives of the model itself
  collectives: (model) => ({
    model,
    runs: [
      {
        mode: 'generate',
        inputs: { text: TEXT },
        maxNewTokens: TOKENS,
        hooks: [counting('model.layers.*.mlp.gate_proj')],
      },
    ],
  }),
  large: (model) => ({
    model,
    runs: [
      {
        inputs: { tokenIds: Array.from({ length: ROWS }, (_, row) => Array.from({ length: 250 }, (_, at) => 5 + ((row + at) % 90))) },
        hooks: [reading('model.layers.*.mlp.gate_proj'), reading('model.layers.*')],
      },
    ],
  }), // prettier-ignore
};

/** A new one each time: a hook object registers once. */
export const specOf = (kind: Kind, model: string): JobSpec => SPECS[kind](model);

/** All that a result says and must say again: outputs, what was saved, and the digest of every file. */
export function answerOf({ json }: JobResult): string {
  const digests = Object.entries(json.files).map(([name, { sha256 }]) => `${name} ${sha256}`);
  return JSON.stringify([json.runs, json.saveCtx, digests.sort()]);
}
