/** Lines over a common axis: loss over steps, an effect over layers. @module */
import { atX, atY, axes, type Frame } from './axes.js';
import { CATEGORIES } from './colour.js';
import { domainOf } from './domain.js';
import { label, node, widthOf, type Scene, type SceneNode } from './scene.js';
import { formatNumber, shorten, visible } from './text.js';
import { THEMES, type Theme } from './theme.js';

export interface Series {
  readonly name: string;
  /** null and NaN leave a gap. */
  readonly y: readonly (number | null)[];
  /** Default 0, 1, 2 ... */
  readonly x?: readonly number[];
}

export interface LineChart {
  readonly title: string;
  readonly series: readonly Series[];
  readonly xTitle?: string;
  readonly yTitle?: string;
}

const FRAME: Frame = { left: 60, top: 56, width: 500, height: 200 };
const MARKED = 60;

const points = ({ y, x }: Series): { x: number; y: number }[] =>
  y.map((value, index) => ({ x: x?.[index] ?? index, y: value ?? Number.NaN }));

export function lineChart(chart: LineChart, theme: Theme = THEMES.light): Scene {
  const all = chart.series.flatMap(points);
  const [x, y] = [domainOf(all.map((point) => point.x)), domainOf(all.map((point) => point.y))];
  const draw = (series: Series, index: number): SceneNode[] => {
    const colour = CATEGORIES[index % CATEGORIES.length]!;
    const known = points(series);
    const steps = known.map((point, at) => {
      if (!Number.isFinite(point.y)) return '';
      const begins = at === 0 || !Number.isFinite(known[at - 1]!.y);
      return `${begins ? 'M' : 'L'}${atX(point.x, FRAME, x)} ${atY(point.y, FRAME, y)}`;
    });
    const dots = known.length > MARKED ? [] : known.filter((point) => Number.isFinite(point.y));
    return [
      node('path', { d: steps.join(''), fill: 'none', stroke: colour, 'stroke-width': 2, 'stroke-linejoin': 'round' }),
      ...dots.map((point) => {
        const tip = node('title', {}, `${visible(series.name)} at ${formatNumber(point.x)}: ${String(point.y)}`);
        return node('circle', { cx: atX(point.x, FRAME, x), cy: atY(point.y, FRAME, y), r: 3, fill: colour }, tip);
      }),
    ];
  };
  const { title, xTitle, yTitle } = chart;
  return {
    width: 590,
    height: 306,
    label: `${title}: lines of ${chart.series.map(({ name }) => visible(name)).join(', ')}`,
    nodes: [
      ...axes({ title, x, y, xTitle, yTitle }, FRAME, theme),
      ...legend(chart.series, theme),
      ...chart.series.flatMap(draw),
    ],
  };
}

function legend(series: readonly Series[], theme: Theme): SceneNode[] {
  if (series.length < 2) return [];
  let x = FRAME.left + FRAME.width;
  return [...series.entries()].reverse().flatMap(([index, { name }]) => {
    const text = shorten(visible(name), 20);
    x -= widthOf(text) + 24;
    const dot = node('circle', { cx: x, cy: 40, r: 4, fill: CATEGORIES[index % CATEGORIES.length] });
    return [dot, label(x + 8, 44, text, { fill: theme.muted })];
  });
}
