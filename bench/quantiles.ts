/** Quantiles of a series as cells of a table. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

/** p50, p95, p99. */
export const quantiles = (values: readonly number[]): string =>
  [0.5, 0.95, 0.99].map((q) => quantile(values, q).toFixed(1).padStart(8)).join('');
