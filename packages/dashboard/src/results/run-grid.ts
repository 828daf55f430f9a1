/**
 * Runs that are a grid. Names that share a beginning and end in two numbers (`layer-3-position-1`) are its cells, as causal traces
 * and patching sweeps name them; names that end in one number (`layer-3`) are its rows, and the texts of their batch the columns,
 * as a logit lens has them. What a cell shows: its most probable token, or a difference of two logits.
 * @module
 */
import { visible, type GridToken } from '@patchbay/charts';
import type { JobResult } from '../api.js';

export interface RunGrid {
  readonly title: string;
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  /** Name of the run of each cell. */
  readonly runs: readonly (readonly (string | undefined)[])[];
}

const NAME = /^(.*?)(\d+)([^\d]+)(\d+)$/;
const ROW_NAME = /^([^\d]*)(\d+)$/;

const word = (text: string, fallback: string): string => text.replace(/[^A-Za-z]+/g, ' ').trim() || fallback;

export function runGrids(result: JobResult): RunGrid[] {
  const groups = new Map<string, { row: number; column: number; run: string }[]>();
  for (const run of Object.keys(result.runs)) {
    const [, before, row, between, column] = NAME.exec(run) ?? [];
    if (row === undefined || column === undefined) continue;
    const key = `${before}\0${between}`;
    groups.set(key, [...(groups.get(key) ?? []), { row: Number(row), column: Number(column), run }]);
  }
  return [...groups].flatMap(([key, cells]) => {
    const [before = '', between = ''] = key.split('\0');
    const sorted = (what: 'row' | 'column'): number[] =>
      [...new Set(cells.map((cell) => cell[what]))].sort((a, b) => a - b);
    const [rows, columns] = [sorted('row'), sorted('column')];
    if (rows.length < 2 || columns.length < 2) return [];
    const [rowWord, columnWord] = [word(before, 'row'), word(between, 'column')];
    const tokens = Object.values(result.runs)
      .flatMap((run) => run.tokens ?? [])
      .find((row) => row.length === columns.length);
    return [
      {
        title: `${rowWord} by ${columnWord}`,
        rows: rows.map((row) => `${rowWord} ${row}`),
        columns: columns.map((column) => tokens?.[column] ?? String(column)),
        runs: rows.map((row) =>
          columns.map((column) => cells.find((cell) => cell.row === row && cell.column === column)?.run),
        ),
      },
    ];
  });
}

export interface TokenRows {
  readonly title: string;
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  readonly cells: readonly (readonly GridToken[])[];
  /** The runs that it shows. */
  readonly runs: readonly string[];
}

type TopK = NonNullable<JobResult['runs'][string]['topK']>[number];

function tokenOf(best: TopK | undefined): GridToken {
  const more = best?.slice(1, 5).map(({ token, probability }) => `${token} ${probability.toFixed(3)}`) ?? [];
  return { token: best?.[0]?.token ?? '', value: best?.[0]?.probability ?? Number.NaN, more };
}

/** Runs of one batch whose names differ in their number. */
export function tokenRows({ runs }: JobResult): TokenRows[] {
  const groups = new Map<string, { row: number; run: string }[]>();
  for (const [run, { topK = [] }] of Object.entries(runs)) {
    const [, before, row] = ROW_NAME.exec(run) ?? [];
    if (before === undefined || topK.length < 2) continue;
    const key = `${before}\0${topK.length}`;
    groups.set(key, [...(groups.get(key) ?? []), { row: Number(row), run }]);
  }
  return [...groups].flatMap(([key, members]) => {
    if (members.length < 2) return [];
    const sorted = members.sort((a, b) => a.row - b.row);
    const name = word(key.split('\0')[0]!, 'run');
    const texts = runs[sorted[0]!.run]!.tokens ?? [];
    return [
      {
        title: `Top token, ${name} by text`,
        rows: sorted.map(({ row }) => `${name} ${row}`),
        columns: runs[sorted[0]!.run]!.topK!.map((_, at) => `… ${visible(texts[at]?.at(-1) ?? String(at))}`),
        cells: sorted.map(({ run }) => runs[run]!.topK!.map(tokenOf)),
        runs: sorted.map(({ run }) => run),
      },
    ];
  });
}

/** Cells with the most probable token of each run; undefined where a run gave none. */
export function topTokens(result: JobResult, { runs }: RunGrid): GridToken[][] | undefined {
  const cells = runs.map((row) =>
    row.map((run) => tokenOf(run === undefined ? undefined : result.runs[run]?.topK?.[0])),
  );
  return cells.flat().some(({ value }) => !Number.isNaN(value)) ? cells : undefined;
}
