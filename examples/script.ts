/** Makes an example a script: it runs on the stack that is up, or on one of its own, and its pictures go to out/. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Heatmap, TokenGrid } from '@patchbay/charts';
import { startStack } from '@patchbay/cli/stack';
import { Patchbay, isPatchbayError } from '@patchbay/sdk';

const MODEL = 'tiny-facts';
const OUT = 'out/examples';

/** A heat map with names at both sides, in plain arrays. */
export interface Grid extends Heatmap {
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  readonly values: readonly (readonly number[])[];
}

/** What an example has to show. */
export interface Shown {
  readonly text: string;
  /** Name -> SVG document. */
  readonly pictures: Readonly<Record<string, string>>;
}

type Show = (pb: Patchbay, model: string) => Promise<Shown>;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** A grid of words for the terminal. */
export function wordGrid({ title, rows, columns, cells }: TokenGrid): string {
  const words = cells.map((row) => row.map(({ token }) => token.trim()));
  const width = Math.max(...[...columns, ...words.flat()].map((word) => word.length)) + 2;
  const margin = Math.max(...rows.map((row) => row.length));
  const line = (name: string, row: readonly string[]): string =>
    name.padStart(margin) + row.map((word) => word.padStart(width)).join('');
  return [title, line('', columns), ...words.map((row, index) => line(rows[index] ?? '', row))].join('\n');
}

async function isDeployed(pb: Patchbay): Promise<boolean> {
  try {
    await pb.models.get(MODEL);
    return true;
  } catch (problem) {
    const known = isPatchbayError(problem, 'PB_STACK_NOT_RUNNING') || isPatchbayError(problem, 'PB_MODEL_NOT_FOUND');
    if (known) return false;
    throw problem;
  }
}

async function present(pb: Patchbay, show: Show): Promise<void> {
  const { text, pictures } = await show(pb, MODEL);
  say(text);
  await mkdir(OUT, { recursive: true });
  for (const [name, svg] of Object.entries(pictures)) {
    await writeFile(join(OUT, `${name}.svg`), svg);
    say(`picture: ${join(OUT, `${name}.svg`)}`);
  }
}

async function onRunningStack(show: Show): Promise<boolean> {
  await using pb = new Patchbay();
  const found = await isDeployed(pb);
  if (found) await present(pb, show);
  return found;
}

async function main(show: Show): Promise<void> {
  if (await onRunningStack(show)) return;
  say(`No stack with ${MODEL} is up: starting one ...`);
  await using stack = await startStack({ model: MODEL, tp: 2 });
  const { redisUrl, http, token } = stack.info;
  await using pb = new Patchbay({ redisUrl, httpUrl: http, token });
  await present(pb, show);
}

/** Runs `show` when its file was started, and does nothing when it was imported. */
export function script(url: string, show: Show): void {
  if (process.argv[1] === undefined || pathToFileURL(process.argv[1]).href !== url) return;
  main(show).catch((problem: unknown) => {
    process.stderr.write(
      `${isPatchbayError(problem) ? `${problem.message}\n${problem.hint ?? ''}` : String(problem)}\n`,
    );
    process.exitCode = 1;
  });
}
