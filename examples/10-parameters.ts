/** Parameters of a sharded model, whole: which rank holds what, and how strongly each head writes to the residual stream. */
import { heatmap, toSvg, toTerminal } from '@patchbay/charts';
import type { Patchbay } from '@patchbay/sdk';
import { script, type Grid } from './script.js';

const [LAYERS, HEADS] = [4, 8];
const output = (layer: number): string => `model.layers.${layer}.self_attn.o_proj.weight`;

export interface Inspected {
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** Norm of each head's columns of o_proj, relative to the largest. */
  readonly map: Grid;
}

export async function headNorms(pb: Patchbay, model: string): Promise<Inspected> {
  const names = Array.from({ length: LAYERS }, (_, layer) => output(layer));
  const job = await pb.jobs.submit({
    model,
    runs: [{ inputs: { text: ['The'] } }], // a job has at least one run
    return: { parameters: names },
  });
  const result = await job.result();
  const weights = await Promise.all(names.map((name) => result.tensor('parameters.safetensors', name)));
  const norms = weights.map((weight) => {
    const width = weight.shape[1]! / HEADS;
    return Array.from({ length: HEADS }, (_, head) => {
      const columns = weight.slice(null, [head * width, (head + 1) * width]).toFloat32();
      return Math.sqrt(columns.reduce((sum, value) => sum + value * value, 0));
    });
  });
  const largest = Math.max(...norms.flat());
  const map = {
    title: 'How strongly each head writes to the residual stream (norm, relative to the largest)',
    rows: names.map((_, layer) => `layer ${layer}`),
    columns: Array.from({ length: HEADS }, (_, head) => `head ${head}`),
    values: norms.map((row) => row.map((norm) => norm / largest)),
  };
  return { shapes: Object.fromEntries(names.map((name, index) => [name, weights[index]!.shape])), map };
}

script(import.meta.url, async (pb, model) => {
  const { shapes, map } = await headNorms(pb, model);
  const { spec } = await pb.models.get(model);
  const lines = Object.entries(shapes).map(
    ([name, shape]) => `${name}  ${JSON.stringify(shape)}, from ${spec.tp} ranks`,
  );
  return {
    text: [...lines, '', toTerminal(map, process.stdout.isTTY)].join('\n'),
    pictures: { parameters: toSvg(heatmap(map)) },
  };
});
