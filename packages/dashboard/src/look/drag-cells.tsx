/** Drags a box over the cells of a heat map. What is told is whole cells; a press without a drag is none. @module */
import type { HeatmapLayout } from '@patchbay/charts';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

interface Cell {
  readonly row: number;
  readonly column: number;
}

/** Ranges of cells, the ends excluded. */
export interface CellBox {
  readonly rows: readonly [number, number];
  readonly columns: readonly [number, number];
}

const clamp = (value: number, size: number): number => Math.min(size - 1, Math.max(0, Math.floor(value)));

function cellAt(event: JSX.TargetedPointerEvent<SVGSVGElement>, layout: HeatmapLayout): Cell {
  const svg = event.currentTarget;
  const shown = svg.getBoundingClientRect();
  const scale = svg.viewBox.baseVal.width / shown.width;
  const [x, y] = [(event.clientX - shown.left) * scale, (event.clientY - shown.top) * scale];
  return {
    row: clamp((y - layout.top) / layout.cellHeight, layout.rows),
    column: clamp((x - layout.left) / layout.cellWidth, layout.columns),
  };
}

const boxOf = (one: Cell, other: Cell): CellBox => ({
  rows: [Math.min(one.row, other.row), Math.max(one.row, other.row) + 1],
  columns: [Math.min(one.column, other.column), Math.max(one.column, other.column) + 1],
});

/** Handlers for the picture, and the box to draw on it. */
export function useCellDrag(
  layout: HeatmapLayout | undefined,
  done: (box: CellBox) => void,
): { handlers: JSX.SVGAttributes<SVGSVGElement>; box: JSX.Element | null } {
  const [drag, setDrag] = useState<{ readonly from: Cell; readonly to: Cell }>();
  if (layout === undefined) return { handlers: {}, box: null };
  const handlers: JSX.SVGAttributes<SVGSVGElement> = {
    onPointerDown: (event) => {
      if (event.button !== 0) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      const from = cellAt(event, layout);
      setDrag({ from, to: from });
    },
    onPointerMove: (event) => drag && setDrag({ from: drag.from, to: cellAt(event, layout) }),
    onPointerUp: () => {
      setDrag(undefined);
      if (drag && (drag.from.row !== drag.to.row || drag.from.column !== drag.to.column))
        done(boxOf(drag.from, drag.to));
    },
    onPointerCancel: () => setDrag(undefined),
  };
  if (drag === undefined) return { handlers, box: null };
  const { rows, columns } = boxOf(drag.from, drag.to);
  const { left, top, cellWidth, cellHeight } = layout;
  const place = { x: left + columns[0] * cellWidth, y: top + rows[0] * cellHeight };
  const size = { width: (columns[1] - columns[0]) * cellWidth, height: (rows[1] - rows[0]) * cellHeight };
  return { handlers, box: <rect class="drag-box" {...place} {...size} /> };
}
