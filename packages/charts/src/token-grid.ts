/** A grid of tokens coloured by a number each: logit lens, layers by positions; also one row: the colours of a text. @module */
import { colourAt, css, inkOn } from './colour.js';
import { position, type Domain } from './domain.js';
import { label, node, widthOf, type Scene, type SceneNode } from './scene.js';
import { formatNumber, shorten, visible } from './text.js';
import { THEMES, type Theme } from './theme.js';

export interface GridToken {
  readonly token: string;
  /** Such as its probability. */
  readonly value: number;
  /** More lines for the tip. */
  readonly more?: readonly string[];
}

export interface TokenGrid {
  readonly title: string;
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  readonly cells: readonly (readonly GridToken[])[];
  /** Default 0 to 1. */
  readonly domain?: Domain;
}

const CELL_HEIGHT = 28;
const CHARACTERS = 12;

export function tokenGrid(grid: TokenGrid, theme: Theme = THEMES.light): Scene {
  const domain = grid.domain ?? { low: 0, high: 1 };
  const text = (token: string): string => shorten(visible(token), CHARACTERS);
  const words = [...grid.columns, ...grid.cells.flat().map(({ token }) => token)].map(text);
  const cellWidth = Math.max(48, ...words.map((word) => widthOf(word, 12, true) + 12));
  const rows = grid.rows.map((row) => shorten(visible(row), 24));
  const left = 20 + Math.max(0, ...rows.map((row) => widthOf(row, 12, true)));
  const top = 68;
  const cell = ({ token, value, more = [] }: GridToken, r: number, c: number): SceneNode => {
    const colour = colourAt(position(value, domain));
    const [x, y] = [left + c * cellWidth, top + r * CELL_HEIGHT];
    const box = { x, y, width: cellWidth - 2, height: CELL_HEIGHT - 2, rx: 3, fill: css(colour) };
    const look = { fill: css(inkOn(colour)), anchor: 'middle', mono: true } as const;
    return node(
      'g',
      {},
      node('title', {}, [`${visible(token)} ${formatNumber(value)}`, ...more.map(visible)].join('\n')),
      node('rect', box),
      label(x + cellWidth / 2 - 1, y + CELL_HEIGHT / 2 + 3, text(token), look),
    );
  };
  return {
    width: Math.max(left + grid.columns.length * cellWidth + 16, widthOf(grid.title, 14) + 32),
    height: top + grid.rows.length * CELL_HEIGHT + 16,
    label: `${grid.title}: grid of ${grid.rows.length} by ${grid.columns.length} tokens`,
    nodes: [
      label(16, 26, grid.title, { size: 14, weight: 600, fill: theme.ink }),
      ...grid.columns.map((name, c) =>
        label(left + (c + 0.5) * cellWidth, top - 9, text(name), { fill: theme.muted, anchor: 'middle', mono: true }),
      ),
      ...rows.map((name, r) =>
        label(left - 8, top + (r + 0.5) * CELL_HEIGHT + 3, name, { fill: theme.muted, anchor: 'end', mono: true }),
      ),
      ...grid.cells.flatMap((row, r) => row.map((item, c) => cell(item, r, c))),
    ],
  };
}
