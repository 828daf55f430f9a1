/**
 * Logit lens: what the model would answer if it stopped after a layer. The residual stream of that layer is put into
 * the output of the last one, so that the model's own final norm and head read it; no weight leaves the workers.
 */
import { toSvg, tokenGrid } from '@patchbay/charts';
import { HookFunction, type Patchbay } from '@patchbay/sdk';
import { script, wordGrid } from './script.js';

const PROMPT = 'The capital of France is';

export interface Lens {
  readonly columns: readonly string[];
  /** [layer][position]: the most probable next token and its probability. */
  readonly cells: readonly (readonly { readonly token: string; readonly probability: number }[])[];
}

export async function logitLens(pb: Patchbay, model: string, layers: number, prompt = PROMPT): Promise<Lens> {
  const words = prompt.split(' ');
  const keep = new HookFunction({
    moduleName: 'model.layers.*',
    save: 'none',
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    save_ctx["_" + current_module.name] = inputs.clone()
    return inputs
`,
  });
  const readAt = (layer: number): HookFunction =>
    new HookFunction({
      moduleName: `model.layers.${layers - 1}`,
      save: 'none',
      editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    return save_ctx["_model.layers.${layer}"]
`,
    });
  // One row per prefix: the last position of each is one position of the prompt.
  const inputs = { text: words.map((_, index) => words.slice(0, index + 1).join(' ')) };
  const job = await pb.jobs.submit({
    model,
    runs: [
      { name: 'whole', inputs, hooks: [keep] },
      ...Array.from({ length: layers }, (_, layer) => ({
        name: `layer-${layer}`,
        inputs,
        hooks: [readAt(layer)],
        return: { topK: 1 },
      })),
    ],
  });
  const { runs } = await job.result();
  const cells = Array.from({ length: layers }, (_, layer) => runs[`layer-${layer}`]!.topK!.map((row) => row[0]!));
  return { columns: words, cells };
}

script(import.meta.url, async (pb, model) => {
  const { columns, cells } = await logitLens(pb, model, 4);
  const map = {
    title: `Logit lens of "${PROMPT}": the next token after each layer, and its probability`,
    rows: cells.map((_, layer) => `layer ${layer}`),
    columns,
    cells: cells.map((row) => row.map(({ token, probability }) => ({ token, value: probability }))),
  };
  return { text: wordGrid(map), pictures: { 'logit-lens': toSvg(tokenGrid(map)) } };
});
