/** FlexModel's own example on a sharded module: singular values of an activation, a threshold, a trainable projection. */
import { lineChart, toSvg } from '@patchbay/charts';
import { HookFunction, linear, type JobResult, type Patchbay } from '@patchbay/sdk';
import { script } from './script.js';

export async function editShardedModule(pb: Patchbay, model: string): Promise<JobResult> {
  const hook = new HookFunction({
    moduleName: 'model.layers.2.mlp.gate_proj', // each rank computes a slice of the 512 columns
    expectedShape: [null, null, 512], // the edit sees all of them
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    _, s, _ = torch.svd(inputs)
    save_ctx.activation_singular_values = s
    inputs = torch.where(inputs > 1.0, inputs, 0.0)
    return modules["linear_projection"](inputs)
`,
  });
  const job = await pb.jobs.submit({
    model,
    modules: { linear_projection: linear(512, 512) },
    runs: [
      { name: 'clean', inputs: { text: ['The capital of France is'] }, hooks: [], return: { topK: 3 } },
      { name: 'edited', inputs: { text: ['The capital of France is'] }, hooks: [hook], return: { topK: 3 } },
    ],
  });
  return job.result();
}

script(import.meta.url, async (pb, model) => {
  const result = await editShardedModule(pb, model);
  const values = [...result.saveCtx.tensor('activation_singular_values').toFloat32()];
  const answer = (run: string): string => result.runs[run]!.topK![0]![0]!.token;
  const lines = [
    `singular values: ${values.map((value) => value.toFixed(2)).join(' ')}`,
    `"The capital of France is" ->${answer('clean')}; edited ->${answer('edited')}`,
  ];
  const title = 'Singular values of the gate of layer 2';
  const picture = lineChart({ title, series: [{ name: 'all 512 columns', y: values }], xTitle: 'index' });
  return { text: lines.join('\n'), pictures: { 'singular-values': toSvg(picture) } };
});
