/** docs/faults.md: what each fault came to, kept by row, so that a run of some cells renews those and leaves the others. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../support/stack.js';
import type { Stage } from './scene.js';
import { nameOf, type Fault, type Outcome } from './strike.js';

const PAGE = join(ROOT, 'docs/faults.md');
const COLUMNS = ['fault', 'end of the job', 'attempts', 'next result after', 'besides loading'];
const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

function knownRows(): Map<string, string> {
  const text = existsSync(PAGE) ? readFileSync(PAGE, 'utf8') : '';
  const rows = text.split('\n').filter((row) => row.startsWith('| ') && row.includes(' while '));
  return new Map(rows.map((row) => [row.split('|')[1]!.trim(), row]));
}

function rowOf(fault: Fault, outcome: Outcome | undefined): string {
  if (outcome === undefined) return line([nameOf(fault), 'no such process then', '', '', '']);
  const { state, code, attempts, recoveryMs, besidesMs } = outcome;
  const end = code === undefined ? state : `${state}, \`${code}\``;
  return line([nameOf(fault), end, String(attempts), seconds(recoveryMs), seconds(besidesMs)]);
}

/** Puts what has held into the page; `all` gives the order. */
export function writePage(
  all: readonly Fault[],
  held: ReadonlyMap<string, { fault: Fault; outcome: Outcome | undefined }>,
  { startMs, loadMs }: Stage,
): void {
  const known = knownRows();
  for (const [name, { fault, outcome }] of held) known.set(name, rowOf(fault, outcome));
  const rows = all.flatMap((fault) => known.get(nameOf(fault)) ?? []);
  writeFileSync(
    PAGE,
    `<!-- Written by \`npm run faults -- --write\`. -->
# What faults cost

Each row: a job is brought into a phase, one process is hit, and then it must hold that the job has one end, its effect happened
once, its answer is the one without a fault (outputs, saved values, digests of all files), its log is legal, has no gap and no
double, the next job runs, and no process of an earlier epoch is left. *kill* is SIGKILL, *stop* SIGSTOP for 7 s, *cut* shuts
every TCP connection of the process, and the one to Redis, once. The supervisor and the ranks are hit by the job's own gang;
*script* is the process of the user; \`placing\`: the gang was lost just before; \`loading\`: the deployment is being made.

*Next result after* counts from the blow. *Besides loading* is without the time that this machine takes, undisturbed, to start what
was destroyed (in the last run ${seconds(loadMs)} for the ranks with their model, ${seconds(startMs)} for Ray and the gateway), and without the time that a process that
recovered by itself was stopped. ${rows.length} of ${all.length} cells, on ${cpus().length} cores that had other work to do.
The same with random faults under a stream of jobs: \`npm run soak -- --minutes N\`.

${[line(COLUMNS), line(COLUMNS.map(() => '---')), ...rows].join('\n')}
`,
  );
}
