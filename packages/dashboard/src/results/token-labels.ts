/** Names for the indices of a tensor's dims, where the result tells the tokens. @module */
import { visible } from '@patchbay/charts';
import type { JobResult, TensorPlace } from '../api.js';

/** The tokens of the run that a tensor belongs to, for dims that are as long as one of its rows. */
export function tokensFor(result: JobResult, place: TensorPlace, size: number): readonly string[] | undefined {
  const run = Object.keys(result.runs)
    .filter((name) => place.name === name || place.name.startsWith(`${name}/`))
    .sort((a, b) => b.length - a.length)[0];
  const candidates = run === undefined ? Object.values(result.runs) : [result.runs[run]!];
  const tokens = candidates.flatMap((value) => value.tokens ?? []).find((row) => row.length === size);
  return tokens?.map((token, position) => `${position} ${visible(token)}`);
}

/** Labels of captured rows: the first entry of the result that names this tensor. */
export function rowsFor(result: JobResult, place: TensorPlace): readonly string[] | undefined {
  const entry = result.activations.find((activation) => 'tensor' in activation && activation.tensor === place.name);
  const rows = entry?.rows;
  if (rows == null || rows.length === 0) return undefined;
  const known = result.runs[entry!.run]?.tokens;
  return rows.map((label) =>
    label === null ? '' : `${label.position} ${visible(known?.[label.row]?.[label.position] ?? '')}`,
  );
}
