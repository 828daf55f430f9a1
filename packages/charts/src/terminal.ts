/** The same pictures as text for a terminal. Plain numbers where there are no colours. @module */
import { colourAt, inkOn, type Rgb } from './colour.js';
import { domainOf, position } from './domain.js';
import type { BarChart } from './bars.js';
import type { Heatmap } from './heatmap.js';
import { formatNumber, visible } from './text.js';

const paint = (text: string, background: Rgb): string =>
  `\u001b[48;2;${background.join(';')}m\u001b[38;2;${inkOn(background).join(';')}m${text}\u001b[0m`;

/** A heat map: one line per row, the number in each cell. */
export function toTerminal(map: Heatmap, colours: boolean): string {
  const scale = map.scale ?? 'sequential';
  const rows = (map.rows ?? []).map(visible);
  const columns = (map.columns ?? []).map(visible);
  const domain =
    map.domain ??
    domainOf(
      map.values.flatMap((row) => Array.from(row)),
      scale,
    );
  const margin = Math.max(0, ...rows.map((row) => row.length));
  const width = Math.max(7, ...columns.map((column) => column.length + 2));
  const cell = (value: number): string => {
    const text = formatNumber(value)
      .padStart(width - 2)
      .padEnd(width);
    return colours ? paint(text, colourAt(position(value, domain), scale)) : text;
  };
  const header = ' '.repeat(margin + 2) + columns.map((column) => column.padStart(width - 1).padEnd(width)).join('');
  const lines = map.values.map((row, r) => `${(rows[r] ?? '').padStart(margin)}  ${Array.from(row, cell).join('')}`);
  return [visible(map.title), ...(columns.length > 0 ? [header.trimEnd()] : []), ...lines].join('\n');
}

export function barsToTerminal({ title, bars, max }: BarChart, width = 40): string {
  const names = bars.map(({ name }) => visible(name));
  const margin = Math.max(0, ...names.map((name) => name.length));
  const whole = max ?? Math.max(0, ...bars.map(({ value }) => value));
  const lines = bars.map(({ value }, index) => {
    const length = whole > 0 ? Math.round(Math.min(1, Math.max(0, value / whole)) * width) : 0;
    return `${names[index]!.padStart(margin)}  ${'█'.repeat(length)} ${formatNumber(value)}`;
  });
  return [visible(title), ...lines].join('\n');
}

/** One line of eight heights. */
export function sparkline(values: readonly number[]): string {
  const domain = domainOf(values);
  return values
    .map((value) => {
      const share = position(value, domain);
      return Number.isNaN(share) ? ' ' : '▁▂▃▄▅▆▇█'[Math.min(7, Math.floor(share * 8))]!;
    })
    .join('');
}
