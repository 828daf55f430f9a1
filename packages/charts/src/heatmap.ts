/** A grid of numbers as coloured cells with a scale beside it: layers by positions, attention, slices of tensors. @module */
import { colourAt, css, inkOn, type ScaleName } from './colour.js';
import { domainOf, position, ticks, type Domain } from './domain.js';
import { rasterUrl } from './raster.js';
import { label, node, widthOf, type Scene, type SceneNode } from './scene.js';
import { formatNumber, shorten, visible } from './text.js';
import { THEMES, type Theme } from './theme.js';

export interface Heatmap {
  readonly title: string;
  /** Names of the rows, from top to bottom; may be left out for large grids. */
  readonly rows?: readonly string[];
  readonly columns?: readonly string[];
  /** One list per row. */
  readonly values: readonly ArrayLike<number>[];
  readonly scale?: ScaleName;
  /** Default: what the values span. */
  readonly domain?: Domain;
  readonly rowTitle?: string;
  readonly columnTitle?: string;
}

/** Where the cells of a heat map are drawn. */
export interface HeatmapLayout {
  readonly left: number;
  readonly top: number;
  readonly cellWidth: number;
  readonly cellHeight: number;
  readonly columns: number;
  readonly rows: number;
}

/** More cells than this are drawn as one picture. */
const MAX_DRAWN = 2_500;
const MAX_SIDE = 640;
const LABEL_CHARACTERS = 24;

const shown = (names: readonly string[] | undefined): string[] =>
  (names ?? []).map((name) => shorten(visible(name), LABEL_CHARACTERS));

export function heatmapLayout(map: Heatmap): HeatmapLayout {
  const [rows, columns] = [map.values.length, map.values[0]?.length ?? 0];
  const names = shown(map.columns);
  const widest = Math.max(0, ...names.map((name) => widthOf(name, 12, true)));
  const labelled = rows * columns <= MAX_DRAWN;
  const cellWidth = labelled
    ? Math.min(110, Math.max(14, 34, Math.min(widest + 12, 110)), Math.max(14, 900 / columns))
    : MAX_SIDE / Math.max(columns, rows);
  const cellHeight = labelled ? Math.min(34, Math.max(14, 600 / rows)) : cellWidth;
  const left = 16 + Math.max(0, ...shown(map.rows).map((name) => widthOf(name, 12, true))) + (map.rowTitle ? 22 : 0);
  return { left, top: names.length > 0 ? 72 : 46, cellWidth, cellHeight, columns, rows };
}

export function heatmap(map: Heatmap, theme: Theme = THEMES.light): Scene {
  const scale = map.scale ?? 'sequential';
  const domain = map.domain ?? domainOf(flat(map.values), scale);
  const layout = heatmapLayout(map);
  const { left, top, cellWidth, cellHeight, columns, rows } = layout;
  const [right, bottom] = [left + columns * cellWidth, top + rows * cellHeight];
  const width = Math.max(right + 84, widthOf(map.title, 14) + 32);
  return {
    width,
    height: Math.max(bottom + (map.columnTitle ? 34 : 16), top + 120),
    label: `${map.title}: heat map of ${rows} by ${columns} values from ${formatNumber(domain.low)} to ${formatNumber(domain.high)}`,
    nodes: [
      label(16, 26, map.title, { size: 14, weight: 600, fill: theme.ink }),
      ...names(map, layout, theme),
      ...(rows * columns <= MAX_DRAWN ? cells(map, layout, domain, scale) : raster(map, layout, domain, scale)),
      ...scaleBar(right + 20, top, Math.max(80, Math.min(200, bottom - top)), domain, scale, theme),
    ],
  };
}

const flat = function* (rows: readonly ArrayLike<number>[]): Generator<number> {
  for (const row of rows) yield* Array.from(row);
};

function names(map: Heatmap, layout: HeatmapLayout, theme: Theme): SceneNode[] {
  const { left, top, cellWidth, cellHeight, columns, rows } = layout;
  const look = { fill: theme.muted, mono: true, size: 12 } as const;
  // labels that would lie on each other are thinned out
  const every = Math.max(1, Math.ceil(14 / cellHeight));
  const widest = Math.max(1, ...shown(map.columns).map((name) => widthOf(name, 12, true)));
  const everyColumn = Math.max(1, Math.ceil((Math.min(widest, 110) + 4) / cellWidth));
  const fits = Math.max(3, Math.floor((cellWidth * everyColumn) / 7.4));
  return [
    ...shown(map.rows).flatMap((name, r) =>
      r % every > 0 ? [] : [label(left - 8, top + (r + 0.5) * cellHeight + 4, name, { ...look, anchor: 'end' })],
    ),
    ...shown(map.columns).flatMap((name, c) =>
      c % everyColumn > 0
        ? []
        : [label(left + (c + 0.5) * cellWidth, top - 8, shorten(name, fits), { ...look, anchor: 'middle' })],
    ),
    ...(map.columnTitle
      ? [
          label(left + (columns * cellWidth) / 2, top + rows * cellHeight + 22, map.columnTitle, {
            fill: theme.muted,
            anchor: 'middle',
          }),
        ]
      : []),
    ...(map.rowTitle
      ? [
          node(
            'g',
            { transform: `translate(14 ${top + (rows * cellHeight) / 2}) rotate(-90)` },
            label(0, 0, map.rowTitle, { fill: theme.muted, anchor: 'middle' }),
          ),
        ]
      : []),
  ];
}

function cells(map: Heatmap, layout: HeatmapLayout, domain: Domain, scale: ScaleName): SceneNode[] {
  const { left, top, cellWidth, cellHeight } = layout;
  const gap = cellWidth > 12 ? 1.5 : 0;
  const written = cellWidth >= 32 && cellHeight >= 16;
  return map.values.flatMap((row, r) =>
    Array.from(row, (value, c) => {
      const colour = colourAt(position(value, domain), scale);
      const [x, y] = [left + c * cellWidth, top + r * cellHeight];
      const name = [map.rows?.[r], map.columns?.[c]]
        .filter((part) => part !== undefined)
        .map(visible)
        .join(', ');
      const box = { x, y, width: cellWidth - gap, height: cellHeight - gap, rx: gap > 0 ? 2 : 0, fill: css(colour) };
      const number = label(x + (cellWidth - gap) / 2, y + cellHeight / 2 + 4, formatNumber(value), {
        fill: css(inkOn(colour)),
        anchor: 'middle',
        size: 11,
      });
      return node(
        'g',
        {},
        node('title', {}, `${name === '' ? '' : `${name}: `}${String(value)}`),
        node('rect', box),
        ...(written ? [number] : []),
      );
    }),
  );
}

function raster(map: Heatmap, layout: HeatmapLayout, domain: Domain, scale: ScaleName): SceneNode[] {
  const { left, top, cellWidth, cellHeight, columns, rows } = layout;
  const size = { x: left, y: top, width: columns * cellWidth, height: rows * cellHeight };
  const how = { preserveAspectRatio: 'none', 'image-rendering': 'pixelated' };
  return [node('image', { ...size, ...how, href: rasterUrl(map.values, domain, scale) })];
}

function scaleBar(x: number, y: number, height: number, domain: Domain, scale: ScaleName, theme: Theme): SceneNode[] {
  const steps = 48;
  return [
    ...Array.from({ length: steps }, (_, index) =>
      node('rect', {
        x,
        y: y + (index * height) / steps,
        width: 12,
        height: height / steps + 0.6,
        fill: css(colourAt(1 - (index + 0.5) / steps, scale)),
      }),
    ),
    ...ticks(domain, 4).map((value) =>
      label(x + 18, y + (1 - position(value, domain)) * height + 4, formatNumber(value), {
        fill: theme.muted,
        size: 11,
      }),
    ),
  ];
}
