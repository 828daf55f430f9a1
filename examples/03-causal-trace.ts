/** Causal tracing: at which layer and position does the clean run's residual bring the right answer back? One job. */
import { heatmap, toSvg, toTerminal } from '@patchbay/charts';
import { HookFunction, type JobResult, type Patchbay } from '@patchbay/sdk';
import { script, type Grid } from './script.js';

const CLEAN = 'The capital of France is';
const CORRUPT = 'The capital of Italy is';

/** Keeps the residual stream after a layer of the clean run. */
const keepLayer = (layer: number): HookFunction =>
  new HookFunction({
    moduleName: `model.layers.${layer}`,
    save: 'none',
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    save_ctx["_layer_${layer}"] = inputs.clone()
    return inputs
`,
  });

/** Puts one position of it into the corrupted run. */
const restoreAt = (layer: number, position: number): HookFunction =>
  new HookFunction({
    moduleName: `model.layers.${layer}`,
    save: 'none',
    where: { positions: [position] },
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    return save_ctx["_layer_${layer}"][:, ${position}:${position + 1}]
`,
  });

export interface Trace {
  readonly result: JobResult;
  readonly map: Grid;
}

/** Share of the clean answer's logit lead that each (layer, position) restores: 0 = as corrupted, 1 = as clean. */
export async function causalTrace(pb: Patchbay, model: string, layers: number): Promise<Trace> {
  const input = { inputs: { text: [CORRUPT] }, return: { logits: 'last' as const } };
  const grid = Array.from({ length: layers }, (_, layer) =>
    CLEAN.split(' ').map((_, position) => ({ layer, position })),
  );
  const job = await pb.jobs.submit({
    model,
    runs: [
      {
        ...input,
        name: 'clean',
        inputs: { text: [CLEAN] },
        hooks: grid.map((_, layer) => keepLayer(layer)),
        return: { logits: 'last', topK: 1 },
      },
      { ...input, name: 'corrupt', hooks: [], return: { logits: 'last', topK: 1 } },
      ...grid.flat().map(({ layer, position }) => ({
        ...input,
        name: `layer-${layer}-position-${position}`,
        hooks: [restoreAt(layer, position)],
      })),
    ],
  });
  const result = await job.result();
  const right = result.runs['clean']!.topK![0]![0]!.tokenId;
  const wrong = result.runs['corrupt']!.topK![0]![0]!.tokenId;
  const lead = (run: string): number => {
    const logits = result.logits(run).toFloat32();
    return logits[right]! - logits[wrong]!;
  };
  const [from, to] = [lead('corrupt'), lead('clean')];
  const values = grid.map((row) =>
    row.map(({ layer, position }) => (lead(`layer-${layer}-position-${position}`) - from) / (to - from)),
  );
  const map = {
    title: `Restored share of "${CLEAN}" in "${CORRUPT}"`,
    rows: grid.map((_, layer) => `layer ${layer}`),
    columns: CORRUPT.split(' '),
    values,
  };
  return { result, map };
}

script(import.meta.url, async (pb, model) => {
  const { map } = await causalTrace(pb, model, 4);
  return { text: toTerminal(map, process.stdout.isTTY), pictures: { 'causal-trace': toSvg(heatmap(map)) } };
});
