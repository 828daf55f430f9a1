/** Reads how many tests ran from the closing lines of mocha and pytest. */

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export const NO_TESTS: Counts = { passed: 0, failed: 0, skipped: 0 };

export function add(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** Runners colour their output where they believe that somebody looks. */
// eslint-disable-next-line no-control-regex -- that is what an escape sequence starts with
const plain = (text: string): string => text.replaceAll(/\u001b\[[\d;]*m/g, '');

/** The last such number: a test's own output may hold the same words. */
function last(text: string, pattern: RegExp): number {
  return Number([...text.matchAll(pattern)].at(-1)?.[1] ?? 0);
}

export function countMocha(output: string): Counts {
  const text = plain(output);
  return {
    passed: last(text, /^\s*(\d+) passing\b/gm),
    failed: last(text, /^\s*(\d+) failing\b/gm),
    skipped: last(text, /^\s*(\d+) pending\b/gm),
  };
}

export function countPytest(output: string): Counts {
  const closing =
    [...plain(output).matchAll(/^.*\b\d+ (?:passed|failed|errors?|skipped)\b.* in [\d.]+s.*$/gm)].at(-1)?.[0] ?? '';
  return {
    passed: last(closing, /(\d+) passed/g),
    failed: last(closing, /(\d+) failed/g) + last(closing, /(\d+) errors?/g),
    skipped: last(closing, /(\d+) skipped/g),
  };
}
