/** What one wants to know of many numbers before one looks at them. @module */
import type { Domain } from './domain.js';

export interface Summary {
  readonly count: number;
  readonly mean: number;
  /** Of the population. */
  readonly deviation: number;
  readonly low: number;
  readonly high: number;
  readonly zeros: number;
  readonly notANumber: number;
  readonly infinite: number;
  /** Square root of the sum of squares. */
  readonly norm: number;
}

/** Over the finite values; the others are counted. Two passes, so that no digits are lost. */
export function summarise(values: ArrayLike<number>): Summary {
  let [finite, sum, squares, low, high, zeros, notANumber, infinite] = [0, 0, 0, Infinity, -Infinity, 0, 0, 0];
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (Number.isNaN(value)) notANumber++;
    else if (!Number.isFinite(value)) infinite++;
    else {
      finite++;
      sum += value;
      squares += value * value;
      if (value === 0) zeros++;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  const mean = sum / finite;
  let spread = 0;
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (Number.isFinite(value)) spread += (value - mean) ** 2;
  }
  const none = finite === 0;
  return {
    count: values.length,
    mean: none ? Number.NaN : mean,
    deviation: none ? Number.NaN : Math.sqrt(spread / finite),
    low: none ? Number.NaN : low,
    high: none ? Number.NaN : high,
    zeros,
    notANumber,
    infinite,
    norm: Math.sqrt(squares),
  };
}

export interface Histogram {
  readonly domain: Domain;
  readonly counts: readonly number[];
}

/** How many finite values lie in each of equally wide bins; the last one includes its upper end. */
export function histogramOf(values: ArrayLike<number>, bins = 40): Histogram {
  const { low, high } = summarise(values);
  if (Number.isNaN(low)) return { domain: { low: 0, high: 1 }, counts: new Array<number>(bins).fill(0) };
  const domain = low === high ? { low: low - 0.5, high: high + 0.5 } : { low, high };
  const counts = new Array<number>(bins).fill(0);
  const width = (domain.high - domain.low) / bins;
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (!Number.isFinite(value)) continue;
    const bin = Math.min(bins - 1, Math.floor((value - domain.low) / width));
    counts[bin] = counts[bin]! + 1;
  }
  return { domain, counts };
}
