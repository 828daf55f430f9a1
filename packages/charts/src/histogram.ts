/** How often which values are there. @module */
import { atX, atY, axes, type Frame } from './axes.js';
import { node, type Scene } from './scene.js';
import { histogramOf, type Histogram } from './statistics.js';
import { formatNumber } from './text.js';
import { THEMES, type Theme } from './theme.js';

export interface HistogramChart {
  readonly title: string;
  readonly values: ArrayLike<number> | Histogram;
  readonly bins?: number;
  readonly xTitle?: string;
}

const FRAME: Frame = { left: 56, top: 52, width: 460, height: 170 };

export function histogram(chart: HistogramChart, theme: Theme = THEMES.light): Scene {
  const { domain, counts } = 'counts' in chart.values ? chart.values : histogramOf(chart.values, chart.bins);
  const y = { low: 0, high: Math.max(1, ...counts) };
  const width = (domain.high - domain.low) / counts.length;
  return {
    width: 540,
    height: 270,
    label: `${chart.title}: histogram of ${counts.reduce((sum, count) => sum + count, 0)} values from ${formatNumber(domain.low)} to ${formatNumber(domain.high)}`,
    nodes: [
      ...axes({ title: chart.title, x: domain, y, xTitle: chart.xTitle, yTitle: 'values' }, FRAME, theme),
      ...counts.map((count, bin) => {
        const [from, to] = [domain.low + bin * width, domain.low + (bin + 1) * width];
        const [left, top] = [atX(from, FRAME, domain), atY(count, FRAME, y)];
        const size = {
          width: Math.max(0.5, atX(to, FRAME, domain) - left - 1),
          height: FRAME.top + FRAME.height - top,
        };
        const tip = node('title', {}, `${formatNumber(from)} to ${formatNumber(to)}: ${count}`);
        return node('rect', { x: left, y: top, ...size, fill: theme.accent }, tip);
      }),
    ],
  };
}
