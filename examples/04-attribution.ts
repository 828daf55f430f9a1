/** Attribution patching: how much each position of each layer matters for an answer, from one backward pass per prompt. */
import { heatmap, toSvg, toTerminal } from '@patchbay/charts';
import type { Patchbay, Tensor } from '@patchbay/sdk';
import { causalTrace } from './03-causal-trace.js';
import { script, type Grid } from './script.js';

export interface Attribution {
  readonly tokens: readonly string[];
  /** [layer][position]: (clean - corrupted activation) . gradient, a linear estimate of what patching it would change. */
  readonly scores: readonly (readonly number[])[];
}

const LAYERS = 'model.layers.*';

/** Rows of a [1, positions, width] tensor. */
function rows(tensor: Tensor): Float32Array[] {
  const [, positions = 0, width = 0] = tensor.shape;
  const values = tensor.toFloat32();
  return Array.from({ length: positions }, (_, position) => values.subarray(position * width, (position + 1) * width));
}

function dot(a: Float32Array, b: Float32Array, gradient: Float32Array): number {
  return gradient.reduce((sum, slope, index) => sum + slope * (a[index]! - b[index]!), 0);
}

/** Which activations of `corrupted` would have to be those of `clean` for the answer to become `target`. */
export async function attribute(
  pb: Patchbay,
  model: string,
  prompts: { readonly clean: string; readonly corrupted: string; readonly target: string; readonly foil: string },
): Promise<Attribution> {
  const { clean, corrupted, target, foil } = prompts;
  const job = await pb.jobs.submit({
    model,
    hooks: [
      { name: 'residual', moduleName: LAYERS },
      { name: 'gradient', moduleName: LAYERS, hookType: 'full_backward_pre' },
    ],
    runs: [
      { name: 'clean', inputs: { text: [clean] } },
      { name: 'corrupted', mode: 'backward', inputs: { text: [corrupted] }, loss: { kind: 'logitDiff', target, foil } },
    ],
  });
  const result = await job.result();
  const of = (hook: string, run: string): Float32Array[][] =>
    result.activations({ hook, run }).map((entry) => rows(entry.tensor()));
  const [before, after, slopes] = [of('residual', 'clean'), of('residual', 'corrupted'), of('gradient', 'corrupted')];
  // Gradients arrive from the last layer to the first.
  slopes.reverse();
  return {
    tokens: result.json.runs['corrupted']?.tokens?.[0] ?? [],
    scores: slopes.map((layer, index) =>
      layer.map((slope, position) => dot(before[index]![position]!, after[index]![position]!, slope)),
    ),
  };
}

export interface Checked {
  readonly estimated: Grid;
  readonly patched: Grid;
  /** Pearson's, over all layers and positions. */
  readonly correlation: number;
}

function correlationOf(a: readonly number[], b: readonly number[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const centred = (values: readonly number[]): number[] => values.map((value) => value - mean(values));
  const product = (x: readonly number[], y: readonly number[]): number =>
    x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  const [x, y] = [centred(a), centred(b)];
  return product(x, y) / Math.sqrt(product(x, x) * product(y, y));
}

/** The estimate of one backward pass beside what 20 patched forward runs really change. */
export async function checkAttribution(pb: Patchbay, model: string): Promise<Checked> {
  const { map: patched } = await causalTrace(pb, model, 4);
  const { tokens, scores } = await attribute(pb, model, {
    clean: 'The capital of France is',
    corrupted: 'The capital of Italy is',
    target: ' Paris',
    foil: ' Rome',
  });
  // After the last layer only the last position counts, and there the estimate is what the whole change amounts to.
  const whole = scores.at(-1)!.at(-1)!;
  const estimated = {
    ...patched,
    title: 'Estimated from one backward pass',
    columns: tokens,
    values: scores.map((row) => row.map((score) => score / whole)),
  };
  return { estimated, patched, correlation: correlationOf(estimated.values.flat(), patched.values.flat()) };
}

script(import.meta.url, async (pb, model) => {
  const { estimated, patched, correlation } = await checkAttribution(pb, model);
  const text = [estimated, patched].map((map) => toTerminal(map, process.stdout.isTTY)).join('\n\n');
  return {
    text: `${text}\n\ncorrelation ${correlation.toFixed(3)}`,
    pictures: { attribution: toSvg(heatmap(estimated)), 'attribution-patched': toSvg(heatmap(patched)) },
  };
});
