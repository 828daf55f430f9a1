/** The range of values that a scale covers, and round numbers in it. @module */
import type { ScaleName } from './colour.js';

export interface Domain {
  readonly low: number;
  readonly high: number;
}

/** Smallest and largest finite value; around zero alike on both sides for a diverging scale. Never empty. */
export function domainOf(values: Iterable<number>, scale: ScaleName = 'sequential'): Domain {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return scale === 'diverging' ? { low: -1, high: 1 } : { low: 0, high: 1 };
  if (scale === 'diverging') {
    const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
    return { low: -size, high: size };
  }
  return low === high ? { low: Math.min(low, 0), high: Math.max(high, 0) || 1 } : { low, high };
}

/** Where a value lies in the domain: 0 to 1 inside it, NaN for what is not a number. */
export function position(value: number, { low, high }: Domain): number {
  if (value === Infinity) return 1;
  if (value === -Infinity) return 0;
  return (value - low) / (high - low);
}

/** At most about `count` round numbers within the domain. */
export function ticks({ low, high }: Domain, count = 5): number[] {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0) || !Number.isFinite(rough)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const found: number[] = [];
  for (let index = Math.ceil(low / step); index * step <= high + step * 1e-9; index++)
    found.push(Number((index * step).toPrecision(12)));
  return found;
}
