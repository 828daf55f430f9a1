/** What is shown of a tensor: two of its dims, a window of each, and an index of every other. Not here: how it looks. @module */
import type { ScaleName } from '@patchbay/charts';
import type { Tensor } from '@patchbay/sdk/tensor';

/** Longer dims are looked at through a window. */
export const MAX_WINDOW = 512;

/** Indices from the first to before the second. */
export type Range = readonly [from: number, to: number];

export interface View {
  readonly rowDim: number;
  readonly columnDim: number;
  /** Of the other dims. */
  readonly index: readonly number[];
  readonly rows: Range;
  readonly columns: Range;
  readonly scale: ScaleName;
}

const whole = (size = 1): Range => [0, Math.min(size, MAX_WINDOW)];

/** The same dims from their beginnings. */
export const zoomedOut = (view: View, shape: readonly number[]): View => ({
  ...view,
  rows: whole(shape.length < 2 ? 1 : shape[view.rowDim]),
  columns: whole(shape[view.columnDim]),
});

export function startView(tensor: Tensor, values: Float32Array): View {
  const dims = tensor.shape.length;
  return zoomedOut(
    {
      rowDim: Math.max(0, dims - 2),
      columnDim: Math.max(0, dims - 1),
      index: tensor.shape.map(() => 0),
      rows: [0, 1],
      columns: [0, 1],
      scale: values.some((value) => value < 0) ? 'diverging' : 'sequential',
    },
    tensor.shape,
  );
}

export const indicesOf = ([from, to]: Range): number[] => Array.from({ length: to - from }, (_, at) => from + at);

/** The values of a view, one list per row. */
export function rowsOf(tensor: Tensor, view: View): Float32Array[] {
  if (tensor.shape.length === 0) return [tensor.toFloat32()];
  return indicesOf(view.rows).map((row) =>
    tensor
      .slice(
        ...tensor.shape.map((_, dim) =>
          dim === view.columnDim
            ? ([...view.columns] as [number, number])
            : dim === view.rowDim
              ? row
              : (view.index[dim] ?? 0),
        ),
      )
      .toFloat32(),
  );
}
