/** Any tensor of the result: what its numbers are like, and any two of its dims as a heat map. @module */
import { formatNumber, heatmap, heatmapLayout, histogram, summarise, type Heatmap } from '@patchbay/charts';
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import type { JobResult, TensorPlace } from '../api.js';
import { useLoaded } from '../live/use-loaded.js';
import { Chart } from '../look/chart.js';
import type { CellBox } from '../look/drag-cells.js';
import { bytes } from '../look/format.js';
import { Facts, Problem, Waiting } from '../look/parts.js';
import { Heads, headDim } from './heads.js';
import { dtypeOf, readTensor, type Part } from './read-tensor.js';
import { Controls, Index } from './tensor-controls.js';
import { indicesOf, rowsOf, startView } from './tensor-view.js';
import { rowsFor, tokensFor } from './token-labels.js';

/** Of attention the last two dims are who looks, and at what. */
const axis = (dim: number, heads: number | undefined): string =>
  heads === undefined || dim <= heads ? `dim ${dim}` : dim === heads + 1 ? 'from' : 'to';

interface ShownProps {
  readonly result: JobResult;
  readonly place: TensorPlace;
  readonly part: Part;
}

function Shown({ result, place, part }: ShownProps): JSX.Element {
  const { tensor } = part;
  const all = useMemo(() => tensor.toFloat32(), [tensor]);
  const [view, setView] = useState(() => startView(tensor, all));
  const summary = useMemo(() => summarise(all), [all]);
  const positions = tokensFor(result, place, tensor.shape.at(-1) ?? 0);
  const heads = useMemo(() => headDim(tensor, all, positions?.length), [tensor]);
  const [rows, columns] = [indicesOf(view.rows), indicesOf(view.columns)];
  const values = rowsOf(tensor, view);
  const names = (dim: number, indices: readonly number[]): string[] => {
    const size = tensor.shape[dim] ?? 0;
    const known =
      tokensFor(result, place, size) ?? (dim < tensor.shape.length - 1 ? rowsFor(result, place) : undefined);
    return indices.map((index) =>
      known?.length === size ? known[index]! : String(index + (dim === 0 ? part.from : 0)),
    );
  };
  const title = heads === undefined ? place.name : `${place.name}, head ${view.index[heads] ?? 0}`;
  const zoomTo = (box: CellBox): void => {
    const within = ([from, to]: CellBox['rows'], start: number): CellBox['rows'] => [start + from, start + to];
    setView({ ...view, rows: within(box.rows, view.rows[0]), columns: within(box.columns, view.columns[0]) });
  };
  const map: Heatmap = {
    title,
    values,
    columns: names(view.columnDim, columns),
    scale: view.scale,
    columnTitle: tensor.shape.length > 0 ? axis(view.columnDim, heads) : '',
    ...(tensor.shape.length > 1 && { rows: names(view.rowDim, rows), rowTitle: axis(view.rowDim, heads) }),
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
      <Controls shape={tensor.shape} view={view} change={setView} />
      {heads === undefined ? null : <Heads tensor={tensor} dim={heads} view={view} change={setView} />}
      <Chart
        name={title}
        draw={(theme) => heatmap(map, theme)}
        cells={{ layout: heatmapLayout(map), select: zoomTo }}
        rows={() => [['', ...(map.columns ?? [])], ...values.map((row, at) => [map.rows?.[at] ?? '', ...row])]}
      />
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
