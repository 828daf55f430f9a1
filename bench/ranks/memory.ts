/** Many jobs of every mode on one gang: what its ranks and the sandbox pool hold, job by job. Ends with 1 when it grows. */
import { keep, nameOf, onRanks } from './torchrun.js';

interface Held {
  readonly jobs: number;
  /** By rank. */
  readonly mebibytes: readonly number[];
  readonly tensors: readonly number[];
  readonly files: readonly number[];
  readonly poolMebibytes: number;
  readonly poolProcesses: number;
}

const MESH = { tp: 2 };
/** Allocators keep what they have had once; a leak of 100 KiB a job is ten times this after 500. */
const SLACK_MEBIBYTES = 5;
/** The share of the jobs after which nothing may grow any more. */
const WARM = 0.2;

export async function benchMemory(jobs: number): Promise<void> {
  const found = await onRanks<Held[]>('memory.py', MESH, { jobs });
  keep('memory', { mesh: MESH, found });
  process.stdout.write(
    `${nameOf(MESH)}: jobs, MiB, tensors and open files by rank, MiB and processes of the sandbox\n`,
  );
  for (const { jobs: count, mebibytes, tensors, files, poolMebibytes, poolProcesses } of found) {
    const cells = [count, mebibytes.join(' '), tensors.join(' '), files.join(' '), poolMebibytes, poolProcesses];
    process.stdout.write(`${cells.map((cell) => String(cell).padStart(14)).join('')}\n`);
  }
  const grown = growth(found);
  process.stdout.write(grown.length === 0 ? 'flat\n' : `GROWS: ${grown.join('; ')}\n`);
  if (grown.length > 0) process.exitCode = 1;
}

function growth(found: readonly Held[]): string[] {
  const last = found.at(-1)!;
  const warm = found.find(({ jobs }) => jobs >= last.jobs * WARM)!;
  const told: string[] = [];
  const check = (what: string, before: number, after: number, slack: number): void => {
    if (after - before > slack) told.push(`${what}: ${before} after ${warm.jobs} jobs, ${after} after ${last.jobs}`);
  };
  last.mebibytes.forEach((value, rank) => check(`MiB of rank ${rank}`, warm.mebibytes[rank]!, value, SLACK_MEBIBYTES));
  last.tensors.forEach((value, rank) => check(`tensors of rank ${rank}`, warm.tensors[rank]!, value, 0));
  last.files.forEach((value, rank) => check(`open files of rank ${rank}`, warm.files[rank]!, value, 0));
  check('MiB of the sandbox', warm.poolMebibytes, last.poolMebibytes, SLACK_MEBIBYTES);
  check('processes of the sandbox', warm.poolProcesses, last.poolProcesses, 0);
  return told;
}
