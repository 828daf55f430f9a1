/** Attribution patching: how much each position of each layer matters for an answer, from one backward pass per prompt. */
import type { Patchbay, Tensor } from '@patchbay/sdk';

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
