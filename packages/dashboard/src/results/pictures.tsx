/** The pictures that a result gives by itself: answers, texts, losses, grids of runs, grids that an edit saved. @module */
import { barChart, heatmap, legible, lineChart, tokenGrid, visible, type GridToken } from '@patchbay/charts';
import type { JSX } from 'preact';
import type { JobResult, TensorPlace } from '../api.js';
import { useLoaded } from '../live/use-loaded.js';
import { Chart } from '../look/chart.js';
import { Problem } from '../look/parts.js';
import { readTensor } from './read-tensor.js';
import { runGrids, tokenRows, topTokens, type RunGrid } from './run-grid.js';

/** More runs than this are not drawn one by one. */
const MAX_RUNS = 12;

type Runs = JobResult['runs'];

export function Answers({ result }: { readonly result: JobResult }): JSX.Element {
  const id = result.jobId;
  const inGrids = new Set([
    ...tokenRows(result).flatMap((grid) => grid.runs),
    ...runGrids(result).flatMap((grid) => grid.runs.flat()),
  ]);
  const shown = Object.entries(result.runs)
    .filter(([run]) => !inGrids.has(run))
    .slice(0, MAX_RUNS);
  return (
    <div class="pictures">
      {shown.flatMap(([run, { topK = [], tokens = [] }]) =>
        topK.map((row, index) => {
          const prompt = tokens[index]?.join('').trim() ?? '';
          const bars = row.slice(0, 10).map(({ token, probability }) => ({ name: token, value: probability }));
          const title = `${run}${topK.length > 1 ? `, row ${index}` : ''}${prompt === '' ? '' : `: ${visible(prompt).slice(0, 60)} …`}`;
          return (
            <Chart
              key={`${run} ${index}`}
              name={`${id}-${run}-top`}
              draw={(theme) => barChart({ title, bars, max: 1 }, theme)}
              rows={() => [
                ['token', 'id', 'probability', 'logit'],
                ...row.map((best) => [best.token, best.tokenId, best.probability, best.logit]),
              ]}
            />
          );
        }),
      )}
    </div>
  );
}

export function Texts({ runs }: { readonly runs: Runs }): JSX.Element | null {
  const texts = Object.entries(runs).flatMap(([run, { text = [], tokens = [] }]) =>
    text.map((generated, row) => ({ key: `${run}, row ${row}`, prompt: tokens[row]?.join('') ?? '', generated })),
  );
  if (texts.length === 0) return null;
  return (
    <>
      {texts.map(({ key, prompt, generated }) => (
        <div key={key}>
          <h3>{key}</h3>
          <p class="text">
            <span class="muted">{legible(prompt)}</span>
            <mark>{legible(generated)}</mark>
          </p>
        </div>
      ))}
    </>
  );
}

export function Losses({ runs, id }: { readonly runs: Runs; readonly id: string }): JSX.Element | null {
  const series = Object.entries(runs).flatMap(([name, { losses }]) =>
    losses === undefined ? [] : [{ name, y: losses }],
  );
  if (series.length === 0) return null;
  return (
    <Chart
      name={`${id}-loss`}
      draw={(theme) => lineChart({ title: 'Loss', series, xTitle: 'step', yTitle: 'loss' }, theme)}
      rows={() => [
        ['run', 'step', 'loss'],
        ...series.flatMap(({ name, y }) => y.map((loss, step) => [name, step, loss ?? Number.NaN])),
      ]}
    />
  );
}

interface GridProps {
  readonly result: JobResult;
  readonly tensors: readonly TensorPlace[];
}

/** Logits of the last position of a run. */
async function lastLogits(props: GridProps, run: string, signal: AbortSignal): Promise<Float32Array | undefined> {
  const place = props.tensors.find(({ name, file }) => file === 'outputs.safetensors' && name === `${run}/logits`);
  if (place === undefined) return undefined;
  const { tensor } = await readTensor(props.result, place, 0, signal);
  const values = tensor.toFloat32();
  return values.slice(values.length - (place.shape.at(-1) ?? 0));
}

const argmax = (values: Float32Array): number =>
  values.reduce((best, value, at) => (value > values[best]! ? at : best), 0);

/** A token's text, where some run of the result tells it. */
function named(result: JobResult, tokenId: number): string {
  const best = Object.values(result.runs).flatMap(({ topK }) => topK?.flat() ?? []);
  const found = best.find((token) => token.tokenId === tokenId);
  return found === undefined ? `token ${tokenId}` : visible(found.token);
}

interface LogitGrid {
  readonly values: number[][];
  readonly against: string;
}

/** How much each run answers as the first run outside the grid does, and not as the second: a difference of two logits. */
async function logitGrid(props: GridProps, grid: RunGrid, signal: AbortSignal): Promise<LogitGrid | undefined> {
  const inside = new Set(grid.runs.flat());
  const outside = Object.keys(props.result.runs).filter((run) => !inside.has(run));
  const [clean, corrupted] = await Promise.all(outside.slice(0, 2).map((run) => lastLogits(props, run, signal)));
  if (clean === undefined || corrupted === undefined) return undefined;
  const [target, foil] = [argmax(clean), argmax(corrupted)];
  if (target === foil) return undefined;
  const lead = (logits: Float32Array | undefined): number =>
    logits === undefined ? Number.NaN : logits[target]! - logits[foil]!;
  const [top, bottom] = [lead(clean), lead(corrupted)];
  const cells: (Float32Array | undefined)[][] = [];
  for (const row of grid.runs)
    cells.push(
      await Promise.all(row.map(async (run) => (run === undefined ? undefined : lastLogits(props, run, signal)))),
    );
  const values = cells.map((row) => row.map((logits) => (lead(logits) - bottom) / (top - bottom)));
  return {
    values,
    against: `share of ${named(props.result, target)} (${outside[0]}) restored against ${named(props.result, foil)} (${outside[1]})`,
  };
}

function Grid(props: GridProps & { readonly grid: RunGrid }): JSX.Element | null {
  const { result, grid } = props;
  const tokens = topTokens(result, grid);
  const { value, problem } = useLoaded(
    (signal) => (tokens === undefined ? logitGrid(props, grid, signal) : Promise.resolve(undefined)),
    [result.jobId, grid.title],
  );
  const { title, rows, columns } = grid;
  if (tokens !== undefined)
    return (
      <TokenPicture title={`Top token, ${title}`} rows={rows} columns={columns} cells={tokens} name={result.jobId} />
    );
  if (problem !== undefined) return <Problem problem={problem} />;
  if (value === undefined) return null;
  const map = { title: `${title}: ${value.against}`, rows, columns, values: value.values, domain: { low: 0, high: 1 } };
  return (
    <Chart
      name={`${result.jobId}-grid`}
      draw={(theme) => heatmap(map, theme)}
      rows={() => [['', ...columns], ...value.values.map((row, r) => [rows[r]!, ...row])]}
    />
  );
}

interface TokenPictureProps {
  readonly title: string;
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  readonly cells: readonly (readonly GridToken[])[];
  readonly name: string;
}

function TokenPicture({ name, ...grid }: TokenPictureProps): JSX.Element {
  const rows = (): (string | number)[][] => [
    ['row', 'column', 'token', 'value'],
    ...grid.cells.flatMap((row, r) =>
      row.map(({ token, value }, c) => [grid.rows[r] ?? r, grid.columns[c] ?? c, token, value]),
    ),
  ];
  return <Chart name={`${name}-tokens`} draw={(theme) => tokenGrid(grid, theme)} rows={rows} />;
}

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');
const isCell = (value: unknown): value is GridToken =>
  typeof value === 'object' &&
  value !== null &&
  typeof (value as GridToken).token === 'string' &&
  typeof (value as GridToken).value === 'number';

/** What an edit or loss saved as `{rows, columns, cells: [[{token, value}]]}` is a logit lens. */
function savedGrid(value: unknown): Omit<TokenPictureProps, 'title' | 'name'> | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { rows, columns, cells } = value as Record<string, unknown>;
  if (!isTexts(rows) || !isTexts(columns) || !Array.isArray(cells)) return undefined;
  const grid = cells as unknown[];
  if (!grid.every((row): row is GridToken[] => Array.isArray(row) && row.every(isCell))) return undefined;
  return { rows, columns, cells: grid.map((row) => row.map(({ token, value: number }) => ({ token, value: number }))) };
}

export function Grids(props: GridProps): JSX.Element {
  const saved = Object.entries(props.result.saveCtx).flatMap(([title, value]) => {
    const grid = savedGrid(value);
    return grid === undefined ? [] : [{ title, ...grid }];
  });
  return (
    <>
      {saved.map((grid) => (
        <TokenPicture key={grid.title} name={props.result.jobId} {...grid} />
      ))}
      {tokenRows(props.result).map(({ runs: _shown, ...grid }) => (
        <TokenPicture key={grid.title} name={props.result.jobId} {...grid} />
      ))}
      {runGrids(props.result).map((grid) => (
        <Grid key={grid.title} grid={grid} {...props} />
      ))}
    </>
  );
}
