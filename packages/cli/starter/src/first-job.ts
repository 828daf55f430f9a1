/** A first job: what does each layer's MLP gate see, and what does the model say when its small values are gone? */
import { mkdir, writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { heatmap, toSvg } from '@patchbay/charts';
import { HookFunction, Patchbay, type JobResult } from '@patchbay/sdk';

/** Runs the clean and the edited model on one prompt. */
export async function firstJob(pb: Patchbay, model: string): Promise<JobResult> {
  const hook = new HookFunction({
    name: 'gate',
    moduleName: 'model.layers.*.mlp.gate_proj', // one hook per layer
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    return torch.where(inputs.abs() > 0.5, inputs, 0.0)
`,
  });
  const inputs = { text: ['The capital of France is'] };
  const job = await pb.jobs.submit({
    model,
    runs: [
      { name: 'clean', inputs, hooks: [], return: { topK: 3 } },
      { name: 'edited', inputs, hooks: [hook], return: { topK: 3 } },
    ],
  });
  return job.result();
}

async function main(): Promise<void> {
  await using pb = new Patchbay();
  const result = await firstJob(pb, process.argv[2] ?? 'tiny-facts');
  for (const run of ['clean', 'edited']) console.log(run, result.runs[run]?.topK?.[0]);
  const norms = result.activations({ hook: 'gate' }).map((one) => {
    const [, tokens = 0, width = 0] = one.shape ?? [];
    const values = one.tensor().toFloat32();
    return Array.from({ length: tokens }, (_, at) => Math.hypot(...values.subarray(at * width, (at + 1) * width)));
  });
  await mkdir('out', { recursive: true });
  await writeFile('out/gates.svg', toSvg(heatmap({ title: 'Norm of the gates: layer by position', values: norms })));
  console.log('picture: out/gates.svg');
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
