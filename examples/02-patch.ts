/** Activation patching: the residual stream of one prompt, put into another, flips the model's answer. */
import { toSvg, tokenGrid } from '@patchbay/charts';
import { HookFunction, type JobResult, type Patchbay } from '@patchbay/sdk';
import { script, wordGrid } from './script.js';

const SUBJECT = 3; // "The capital of <country> is"

export async function flipAnswer(pb: Patchbay, model: string): Promise<JobResult> {
  const site = { moduleName: 'model.layers.0', where: { positions: [SUBJECT] } };
  const keep = new HookFunction({
    ...site,
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    save_ctx.subject = inputs.clone()
    return inputs
`,
  });
  const patch = new HookFunction({
    ...site,
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    return save_ctx.subject
`,
  });
  const job = await pb.jobs.submit({
    model,
    runs: [
      { name: 'france', inputs: { text: ['The capital of France is'] }, hooks: [keep], return: { topK: 1 } },
      { name: 'italy', inputs: { text: ['The capital of Italy is'] }, hooks: [], return: { topK: 1 } },
      { name: 'patched', inputs: { text: ['The capital of Italy is'] }, hooks: [patch], return: { topK: 1 } },
    ],
  });
  return job.result();
}

script(import.meta.url, async (pb, model) => {
  const { runs } = await flipAnswer(pb, model);
  const answers = ['france', 'italy', 'patched'].map((run) => runs[run]!.topK![0]![0]!);
  const map = {
    title: 'The capital of ... is: most probable answer and its probability',
    rows: ['answer'],
    columns: ['France', 'Italy', 'Italy, patched'],
    cells: [answers.map(({ token, probability }) => ({ token, value: probability }))],
  };
  return { text: wordGrid(map), pictures: { patch: toSvg(tokenGrid(map)) } };
});
