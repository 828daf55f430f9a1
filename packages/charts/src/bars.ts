/** Lengths: the most probable tokens, and how a whole is divided (time by phase). @module */
import { CATEGORIES } from './colour.js';
import { label, node, widthOf, type Scene } from './scene.js';
import { formatNumber, shorten, visible } from './text.js';
import { THEMES, type Theme } from './theme.js';

export interface BarChart {
  readonly title: string;
  readonly bars: readonly { readonly name: string; readonly value: number }[];
  /** The longest possible bar; default: the largest value. */
  readonly max?: number;
}

const ROW = 26;
const LENGTH = 320;

export function barChart({ title, bars, max }: BarChart, theme: Theme = THEMES.light): Scene {
  const names = bars.map(({ name }) => shorten(visible(name), 24));
  const left = 24 + Math.max(24, ...names.map((name) => widthOf(name, 12, true)));
  const whole = max ?? Math.max(0, ...bars.map(({ value }) => value));
  return {
    width: left + LENGTH + 76,
    height: 52 + bars.length * ROW,
    label: `${title}: ${bars.map(({ name, value }) => `${visible(name)} ${formatNumber(value)}`).join(', ')}`,
    nodes: [
      label(16, 26, title, { size: 14, weight: 600, fill: theme.ink }),
      ...bars.flatMap(({ value }, index) => {
        const y = 42 + index * ROW;
        const length = whole > 0 ? Math.max(1, Math.min(1, Math.max(0, value / whole)) * LENGTH) : 1;
        return [
          label(left - 8, y + 14, names[index]!, { fill: theme.ink, anchor: 'end', mono: true }),
          node('rect', { x: left, y: y + 1, width: length, height: ROW - 8, rx: 3, fill: theme.accent }),
          label(left + length + 8, y + 14, formatNumber(value), { fill: theme.muted }),
        ];
      }),
    ],
  };
}

export interface Share {
  readonly name: string;
  readonly value: number;
}

/** One bar that is divided, with a legend below. */
export function stackedBar(
  title: string,
  shares: readonly Share[],
  unit = '',
  theme: Theme = THEMES.light,
  width = 720,
): Scene {
  const kept = shares.filter(({ value }) => value > 0);
  const total = kept.reduce((sum, { value }) => sum + value, 0);
  const inner = width - 32;
  let x = 16;
  let [legendX, legendY] = [16, 92];
  const nodes = kept.flatMap(({ name, value }, index) => {
    const fill = CATEGORIES[index % CATEGORIES.length]!;
    const text = `${visible(name)} ${formatNumber(value)}${unit}`;
    const length = (value / total) * inner;
    const bar = node('rect', { x, y: 40, width: Math.max(0.5, length - 1), height: 26, fill }, node('title', {}, text));
    x += length;
    if (legendX + widthOf(text) + 26 > width) [legendX, legendY] = [16, legendY + 22];
    const key = [
      node('rect', { x: legendX, y: legendY - 9, width: 10, height: 10, rx: 2, fill }),
      label(legendX + 15, legendY, text, { fill: theme.muted }),
    ];
    legendX += widthOf(text) + 34;
    return [bar, ...key];
  });
  return {
    width,
    height: legendY + 14,
    label: `${title}: ${kept.map(({ name, value }) => `${visible(name)} ${formatNumber(value)}${unit}`).join(', ')}`,
    nodes: [label(16, 24, title, { size: 14, weight: 600, fill: theme.ink }), ...nodes],
  };
}
