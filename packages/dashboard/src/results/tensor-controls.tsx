/** Chooses what is shown of a tensor, without a mouse. @module */
import type { ScaleName } from '@patchbay/charts';
import type { JSX } from 'preact';
import { MAX_WINDOW, zoomedOut, type Range, type View } from './tensor-view.js';

interface IndexProps {
  readonly name: string;
  readonly value: number;
  readonly min?: number;
  readonly max: number;
  readonly change: (value: number) => void;
}

export function Index({ name, value, min = 0, max, change }: IndexProps): JSX.Element {
  const set = (event: JSX.TargetedEvent<HTMLInputElement>): void =>
    change(Math.min(max, Math.max(min, Math.round(event.currentTarget.valueAsNumber || min))));
  return (
    <label>
      {name}
      <input type="number" min={min} max={max} value={value} onInput={set} />
    </label>
  );
}

interface ControlsProps {
  readonly shape: readonly number[];
  readonly view: View;
  readonly change: (view: View) => void;
}

function Dim(props: ControlsProps & { readonly which: 'rowDim' | 'columnDim'; readonly title: string }): JSX.Element {
  const { shape, view, change, which, title } = props;
  const other = view[which === 'rowDim' ? 'columnDim' : 'rowDim'];
  const pick = (dim: number): void => change(zoomedOut({ ...view, [which]: dim }, shape));
  return (
    <label>
      {title}
      <select value={view[which]} onChange={(event) => pick(Number(event.currentTarget.value))}>
        {shape.map((size, dim) =>
          dim === other ? null : (
            <option key={dim} value={dim}>
              dim {dim} ({size})
            </option>
          ),
        )}
      </select>
    </label>
  );
}

/** Where a window begins and how long it is. */
function Window(props: { what: string; size: number; range: Range; change: (range: Range) => void }): JSX.Element {
  const { what, size, range, change } = props;
  const [from, to] = range;
  const clipped = (first: number, count: number): void => change([first, Math.min(size, first + count)]);
  return (
    <>
      <Index name={`First ${what}`} value={from} max={size - 1} change={(first) => clipped(first, to - from)} />
      <Index
        name={`${what === 'row' ? 'Rows' : 'Columns'} shown`}
        value={to - from}
        min={1}
        max={Math.min(size - from, MAX_WINDOW)}
        change={(count) => clipped(from, count)}
      />
    </>
  );
}

export function Controls({ shape, view, change }: ControlsProps): JSX.Element {
  const [height, width] = [shape.length < 2 ? 1 : shape[view.rowDim]!, shape[view.columnDim] ?? 1];
  const out = zoomedOut(view, shape);
  const zoomed = [...view.rows, ...view.columns].join() !== [...out.rows, ...out.columns].join();
  return (
    <form class="filter" onSubmit={(event) => event.preventDefault()} aria-label="What is shown of the tensor">
      {shape.length > 1 ? <Dim {...{ shape, view, change }} which="rowDim" title="Rows" /> : null}
      {shape.length > 1 ? <Dim {...{ shape, view, change }} which="columnDim" title="Columns" /> : null}
      {shape.map((size, dim) =>
        dim === view.rowDim || dim === view.columnDim || size < 2 ? null : (
          <Index
            key={dim}
            name={`Index of dim ${dim}`}
            value={view.index[dim] ?? 0}
            max={size - 1}
            change={(value) => change({ ...view, index: view.index.map((old, at) => (at === dim ? value : old)) })}
          />
        ),
      )}
      {height > 1 ? (
        <Window what="row" size={height} range={view.rows} change={(rows) => change({ ...view, rows })} />
      ) : null}
      {width > 1 ? (
        <Window what="column" size={width} range={view.columns} change={(columns) => change({ ...view, columns })} />
      ) : null}
      <label>
        Colours
        <select
          value={view.scale}
          onChange={(event) => change({ ...view, scale: event.currentTarget.value as ScaleName })}
        >
          <option value="diverging">around zero</option>
          <option value="sequential">low to high</option>
        </select>
      </label>
      <button type="button" disabled={!zoomed} onClick={() => change(out)}>
        Zoom out
      </button>
    </form>
  );
}
