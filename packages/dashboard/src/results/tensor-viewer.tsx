/** Any tensor of the result: what its numbers are like, and any two of its dims as a heat map. @module */
import { gridToCsv, heatmap, histogram, summarise, formatNumber, type Heatmap, type ScaleName } from '@patchbay/charts';
import type { Tensor } from '@patchbay/sdk/tensor';
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import type { JobResult, TensorPlace } from '../api.js';
import { useLoaded } from '../live/use-loaded.js';
import { Chart, save } from '../look/chart.js';
import { bytes } from '../look/format.js';
import { Facts, Problem, Waiting } from '../look/parts.js';
import { dtypeOf, readTensor, type Part } from './read-tensor.js';
import { rowsFor, tokensFor } from './token-labels.js';

/** Wider or higher parts are looked at through a window. */
const WINDOW = 512;

interface View {
  readonly rowDim: number;
  readonly columnDim: number;
  /** Of the other dims. */
  readonly index: readonly number[];
  readonly row: number;
  readonly column: number;
  readonly zoom: number;
  readonly scale: ScaleName;
}

function startView(shape: readonly number[], part: Part): View {
  const dims = shape.length;
  const values = part.tensor.toFloat32();
  const scale = values.some((value) => value < 0) ? 'diverging' : 'sequential';
  const index = shape.map(() => 0);
  return {
    rowDim: Math.max(0, dims - 2),
    columnDim: Math.max(0, dims - 1),
    index,
    row: 0,
    column: 0,
    zoom: WINDOW,
    scale,
  };
}

interface Grid {
  readonly rows: readonly Float32Array[];
  readonly rowNames: readonly number[];
  readonly columnNames: readonly number[];
}

function gridOf(tensor: Tensor, view: View): Grid {
  const shape = tensor.shape;
  if (shape.length === 0) return { rows: [tensor.toFloat32()], rowNames: [0], columnNames: [0] };
  const range = (dim: number, from: number): [number, number] => [from, Math.min(shape[dim]!, from + view.zoom)];
  const columns = range(view.columnDim, view.column);
  const rows: [number, number] = shape.length < 2 ? [0, 1] : range(view.rowDim, view.row);
  const names = ([from, to]: [number, number]): number[] => Array.from({ length: to - from }, (_, at) => from + at);
  const rowNames = names(rows);
  const values = rowNames.map((row) =>
    tensor
      .slice(
        ...shape.map((_, dim) =>
          dim === view.columnDim ? columns : dim === view.rowDim ? row : (view.index[dim] ?? 0),
        ),
      )
      .toFloat32(),
  );
  return { rows: values, rowNames, columnNames: names(columns) };
}

interface ControlsProps {
  readonly shape: readonly number[];
  readonly view: View;
  readonly change: (part: Partial<View>) => void;
}

function Index(props: { name: string; value: number; max: number; change: (value: number) => void }): JSX.Element {
  const { name, value, max, change } = props;
  const set = (event: JSX.TargetedEvent<HTMLInputElement>): void =>
    change(Math.min(max, Math.max(0, Math.round(event.currentTarget.valueAsNumber || 0))));
  return (
    <label>
      {name}
      <input type="number" min={0} max={max} value={value} onInput={set} />
    </label>
  );
}

function Controls({ shape, view, change }: ControlsProps): JSX.Element {
  const dims = shape.map((size, dim) => ({ dim, name: `dim ${dim} (${size})` }));
  const pick = (name: 'rowDim' | 'columnDim', title: string): JSX.Element => (
    <label>
      {title}
      <select
        value={view[name]}
        onChange={(event) => change({ [name]: Number(event.currentTarget.value), row: 0, column: 0 })}
      >
        {dims
          .filter(({ dim }) => dim !== view[name === 'rowDim' ? 'columnDim' : 'rowDim'])
          .map(({ dim, name: text }) => (
            <option key={dim} value={dim}>
              {text}
            </option>
          ))}
      </select>
    </label>
  );
  const [height, width] = [shape[view.rowDim] ?? 1, shape[view.columnDim] ?? 1];
  return (
    <form class="filter" onSubmit={(event) => event.preventDefault()} aria-label="What is shown of the tensor">
      {shape.length > 1 ? pick('rowDim', 'Rows') : null}
      {shape.length > 1 ? pick('columnDim', 'Columns') : null}
      {dims
        .filter(({ dim }) => dim !== view.rowDim && dim !== view.columnDim && shape[dim]! > 1)
        .map(({ dim }) => (
          <Index
            key={dim}
            name={`Index of dim ${dim}`}
            value={view.index[dim] ?? 0}
            max={shape[dim]! - 1}
            change={(value) => change({ index: view.index.map((old, at) => (at === dim ? value : old)) })}
          />
        ))}
      <label>
        Zoom
        <select value={view.zoom} onChange={(event) => change({ zoom: Number(event.currentTarget.value) })}>
          {[512, 256, 128, 64, 32, 16, 8].map((size) => (
            <option key={size} value={size}>
              {size} × {size}
            </option>
          ))}
        </select>
      </label>
      {height > view.zoom ? (
        <Index name="First row" value={view.row} max={height - 1} change={(row) => change({ row })} />
      ) : null}
      {width > view.zoom ? (
        <Index name="First column" value={view.column} max={width - 1} change={(column) => change({ column })} />
      ) : null}
      <label>
        Colours
        <select value={view.scale} onChange={(event) => change({ scale: event.currentTarget.value as ScaleName })}>
          <option value="diverging">around zero</option>
          <option value="sequential">low to high</option>
        </select>
      </label>
    </form>
  );
}

interface ShownProps {
  readonly result: JobResult;
  readonly place: TensorPlace;
  readonly part: Part;
}

function Shown({ result, place, part }: ShownProps): JSX.Element {
  const { tensor } = part;
  const [view, setView] = useState(() => startView(tensor.shape, part));
  const all = useMemo(() => tensor.toFloat32(), [tensor]);
  const summary = useMemo(() => summarise(all), [all]);
  const grid = gridOf(tensor, view);
  const names = (dim: number, indices: readonly number[]): string[] => {
    const size = tensor.shape[dim] ?? 0;
    const known =
      tokensFor(result, place, size) ?? (dim < tensor.shape.length - 1 ? rowsFor(result, place) : undefined);
    return indices.map((index) =>
      known?.length === size ? known[index]! : String(index + (dim === 0 ? part.from : 0)),
    );
  };
  const map: Heatmap = {
    title: place.name,
    values: grid.rows,
    columns: names(view.columnDim, grid.columnNames),
    scale: view.scale,
    columnTitle: tensor.shape.length > 0 ? `dim ${view.columnDim}` : '',
    ...(tensor.shape.length > 1 && { rows: names(view.rowDim, grid.rowNames), rowTitle: `dim ${view.rowDim}` }),
  };
  const facts = [
    ['Values', summary.count.toLocaleString()],
    ['Mean', formatNumber(summary.mean)],
    ['Deviation', formatNumber(summary.deviation)],
    ['Lowest', formatNumber(summary.low)],
    ['Highest', formatNumber(summary.high)],
    ['Norm', formatNumber(summary.norm)],
    ['Zeros', summary.zeros.toLocaleString()],
    ['NaN, infinite', `${summary.notANumber}, ${summary.infinite}`],
  ] as const;
  return (
    <>
      {part.partial ? (
        <p class="note">
          The tensor has {bytes(place.end - place.begin)}: shown, and counted, are {tensor.shape[0]} of {place.shape[0]}{' '}
          indices of dim 0.
        </p>
      ) : null}
      <Facts facts={facts} />
      <Controls shape={tensor.shape} view={view} change={(change) => setView((old) => ({ ...old, ...change }))} />
      <Chart name={place.name} draw={(theme) => heatmap(map, theme)} />
      <button
        type="button"
        onClick={() =>
          save(`${place.name}.csv`, new Blob([gridToCsv(grid.rows, map.rows, map.columns)], { type: 'text/csv' }))
        }
      >
        CSV of this view
      </button>
      {all.length > 1 ? (
        <Chart
          name={`${place.name}-histogram`}
          draw={(theme) => histogram({ title: 'Histogram', values: all }, theme)}
        />
      ) : null}
    </>
  );
}

export function TensorViewer({
  result,
  place,
}: {
  readonly result: JobResult;
  readonly place: TensorPlace;
}): JSX.Element {
  const [from, setFrom] = useState(0);
  const { value, problem } = useLoaded(
    (signal) => readTensor(result, place, from, signal),
    [place.file, place.name, from],
  );
  return (
    <div class="tensor">
      <h3>
        <code>{place.name}</code>{' '}
        <span class="muted">
          {dtypeOf(place)} [{place.shape.join(', ')}] · {place.file}
        </span>
      </h3>
      {value?.partial === true ? (
        <form class="filter" onSubmit={(event) => event.preventDefault()}>
          <Index name="First index of dim 0" value={from} max={Math.max(0, place.shape[0]! - 1)} change={setFrom} />
        </form>
      ) : null}
      {problem === undefined ? null : <Problem problem={problem} />}
      {value === undefined && problem === undefined ? <Waiting what="the tensor" /> : null}
      {value === undefined ? null : <Shown key={`${place.name} ${from}`} result={result} place={place} part={value} />}
    </div>
  );
}
