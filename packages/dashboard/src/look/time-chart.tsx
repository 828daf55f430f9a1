/** Lines over time, by uPlot. The legend is ours: uPlot's would make markup of text. @module */
import { CATEGORIES, formatNumber } from '@patchbay/charts';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { clock } from './format.js';
import { useTheme } from './theme.js';

export interface TimeSeries {
  readonly name: string;
  readonly values: readonly (number | null)[];
  readonly bars?: boolean;
  readonly colour?: number;
}

interface TimeChartProps {
  readonly title: string;
  /** Unix milliseconds. */
  readonly at: readonly number[];
  readonly series: readonly TimeSeries[];
  readonly format: (value: number) => string;
}

const HEIGHT = 130;
/** Between counts there is nothing. */
const WHOLE_STEPS = [1, 2, 5]
  .flatMap((step) => [1, 10, 100, 1e3, 1e4, 1e5].map((power) => step * power))
  .sort((a, b) => a - b);

/** Bars stand on each other, so the highest is drawn first; lines follow. */
function drawn(series: readonly TimeSeries[]): TimeSeries[] {
  const stacked: TimeSeries[] = [];
  for (const one of series.filter(({ bars }) => bars === true)) {
    const below = stacked[0]?.values;
    stacked.unshift({ ...one, values: one.values.map((value, at) => (value ?? 0) + (below?.[at] ?? 0)) });
  }
  return [...stacked, ...series.filter(({ bars }) => bars !== true)];
}

export function TimeChart({ title, at, series, format }: TimeChartProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const { name, theme } = useTheme();
  const shown = drawn(series);
  const data = [at.map((ms) => ms / 1000), ...shown.map(({ values }) => [...values])] as uPlot.AlignedData;
  useEffect(() => {
    const target = place.current!;
    const axis = { stroke: theme.muted, grid: { stroke: theme.grid, width: 1 }, ticks: { show: false } };
    const lines = shown.map(({ name: label, bars = false, colour = 0 }): uPlot.Series => {
      const stroke = CATEGORIES[colour]!;
      const how = bars ? { fill: stroke, paths: uPlot.paths.bars!({ size: [0.7, 12] }), points: { show: false } } : {};
      return {
        label,
        stroke,
        width: bars ? 0 : 2,
        spanGaps: false,
        points: { show: !bars, size: 4, fill: stroke },
        ...how,
      };
    });
    const options: uPlot.Options = {
      width: target.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false },
      scales: { y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, size: 28, values: (_plot, seconds) => seconds.map((second) => clock(second * 1000).slice(0, 5)) },
        {
          ...axis,
          size: 56,
          values: (_plot, splits) => splits.map(format),
          ...(shown.some(({ bars }) => bars === true) && { incrs: WHOLE_STEPS }),
        },
      ],
      series: [{}, ...lines],
    };
    const made = new uPlot(options, data, target);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: target.clientWidth, height: HEIGHT }));
    resized.observe(target);
    return () => {
      resized.disconnect();
      made.destroy();
    };
  }, [name, series.length]);
  useEffect(() => plot.current?.setData(data), [at, series]);
  const last = series.map(({ name: label, values }) => {
    const value = values.findLast((number) => number !== null);
    return `${label} ${value == null ? 'none' : format(value)}`;
  });
  return (
    <div class="time-chart">
      <div class="time-chart-title">
        <h3>{title}</h3>
        {series.map(({ name: label, colour = 0 }) => (
          <span class="legend" key={label}>
            <svg width="10" height="10" aria-hidden="true">
              <rect width="10" height="10" rx="2" fill={CATEGORIES[colour]} />
            </svg>
            {label}
          </span>
        ))}
      </div>
      <div ref={place} role="img" aria-label={`${title}, last: ${last.join(', ')}`} />
    </div>
  );
}

export const plain = (value: number): string => (Number.isInteger(value) ? String(value) : formatNumber(value));
