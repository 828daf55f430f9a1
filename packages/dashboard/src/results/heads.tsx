/** Attention: every head of a layer small, the chosen one below with its tokens. Not here: which tensors are attention. @module */
import { rasterUrl } from '@patchbay/charts';
import type { Tensor } from '@patchbay/sdk/tensor';
import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import type { View } from './tensor-view.js';

const SIDE = 84;
const MAX_HEADS = 128;
const TOLERANCE = 1e-2;

/** The dim of the heads, where the last two dims are positions by positions and every row is a distribution. */
export function headDim(tensor: Tensor, values: Float32Array, tokens: number | undefined): number | undefined {
  const { shape } = tensor;
  const size = shape.at(-1);
  const dim = shape.length - 3;
  if (dim < 0 || size === undefined || shape.at(-2) !== size || tokens !== size || size < 2) return undefined;
  for (let row = 0; row < values.length; row += size) {
    const weights = values.subarray(row, row + size);
    if (weights.some((weight) => !(weight >= 0))) return undefined;
    if (Math.abs(weights.reduce((sum, weight) => sum + weight, 0) - 1) > TOLERANCE) return undefined;
  }
  return dim;
}

interface HeadsProps {
  readonly tensor: Tensor;
  readonly dim: number;
  readonly view: View;
  readonly change: (view: View) => void;
}

export function Heads({ tensor, dim, view, change }: HeadsProps): JSX.Element {
  const at = (head: number): number[] => view.index.map((old, one) => (one === dim ? head : old));
  const before = view.index.slice(0, dim);
  const pictures = useMemo(() => {
    const [size, count] = [tensor.shape.at(-1)!, Math.min(tensor.shape[dim]!, MAX_HEADS)];
    return Array.from({ length: count }, (_, head) => {
      const values = tensor.slice(...before, head).toFloat32();
      const rows = Array.from({ length: size }, (_row, row) => values.subarray(row * size, (row + 1) * size));
      return rasterUrl(rows, { low: 0, high: 1 }, 'sequential');
    });
  }, [tensor, dim, before.join()]);
  return (
    <div class="heads" role="group" aria-label="Heads">
      {pictures.map((picture, head) => (
        <button
          type="button"
          key={head}
          aria-pressed={view.index[dim] === head}
          onClick={() => change({ ...view, index: at(head) })}
        >
          <img src={picture} width={SIDE} height={SIDE} alt="" />
          head {head}
        </button>
      ))}
    </div>
  );
}
