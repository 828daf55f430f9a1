/**
 * Who keeps a stack: `run/keeper.json` is the lock and the list of its processes, also while it starts;
 * `run/stack.json` is what scripts read once it is ready. Both are replaced atomically, mode 0600.
 * @module
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { error, stackInfo, type StackInfo } from '@patchbay/protocol';
import { z } from 'zod';
import type { StackPaths } from './paths.js';
import { waitFor } from '../processes/wait.js';

const startedProcess = z.object({
  name: z.string(),
  pid: z.int(),
  /** When the process started, as the kernel counts: tells a process from a later one with the same number. */
  start: z.string(),
});
const keeperFile = z.object({ pid: z.int(), start: z.string(), processes: z.array(startedProcess).default([]) });
export type Keeper = z.output<typeof keeperFile>;
export type StartedProcess = z.output<typeof startedProcess>;

/** Empty when there is no such process, or it is a zombie. */
export function processStart(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? '' : (fields[19] ?? '');
  } catch {
    if (process.platform === 'linux') return '';
  }
  try {
    process.kill(pid, 0);
    return 'unknown';
  } catch {
    return '';
  }
}

/** True while that very process runs. */
export function isAlive({ pid, start }: { pid: number; start: string }): boolean {
  return start !== '' && processStart(pid) === start;
}

function readJson<T>(path: string, schema: z.ZodType<T>): T | undefined {
  try {
    return schema.safeParse(JSON.parse(readFileSync(path, 'utf8'))).data;
  } catch {
    return undefined;
  }
}

function writeAtomically(path: string, value: unknown): void {
  const temporary = `${path}.${randomUUID()}`;
  writeFileSync(temporary, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, path);
}

/** The keeper that a file names, dead or alive. */
export function readKeeper(paths: StackPaths): Keeper | undefined {
  return readJson(paths.keeperFile, keeperFile);
}

/** The running stack of a home; undefined when there is none or its keeper is dead. */
export function readStack(paths: StackPaths): StackInfo | undefined {
  const keeper = readKeeper(paths);
  const info = readJson(paths.stackFile, stackInfo);
  return info !== undefined && keeper !== undefined && keeper.pid === info.keeperPid && isAlive(keeper)
    ? info
    : undefined;
}

export function writeStack(paths: StackPaths, info: StackInfo): void {
  writeAtomically(paths.stackFile, info);
}

export function writeProcesses(paths: StackPaths, processes: readonly { name: string; pid: number }[]): void {
  const started = processes.map(({ name, pid }) => ({ name, pid, start: processStart(pid) }));
  writeAtomically(paths.keeperFile, { ...self(), processes: started } satisfies Keeper);
}

const self = (): { pid: number; start: string } => ({ pid: process.pid, start: processStart(process.pid) });

/** Waits until none of them runs; false when the time is over. */
export async function waitUntilGone(
  processes: readonly { pid: number; start: string }[],
  timeoutMs: number,
): Promise<boolean> {
  return (await waitFor(() => (processes.some(isAlive) ? undefined : true), { timeoutMs })) ?? false;
}

/**
 * Becomes the keeper of a home. What a dead keeper left is waited for and removed.
 * @throws `PB_STACK_RUNNING`
 */
export async function takeKeeper(paths: StackPaths): Promise<void> {
  const mine = `${paths.keeperFile}.${randomUUID()}`;
  writeFileSync(mine, JSON.stringify({ ...self(), processes: [] } satisfies Keeper), { mode: 0o600 });
  try {
    for (;;) {
      try {
        linkSync(mine, paths.keeperFile); // fails when there is one: the lock
        return;
      } catch (problem) {
        if ((problem as NodeJS.ErrnoException).code !== 'EEXIST') throw problem;
      }
      const other = readKeeper(paths);
      if (other !== undefined && isAlive(other)) throw error('PB_STACK_RUNNING', { home: paths.home, pid: other.pid });
      await removeStale(paths, other);
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

/** Forgets a dead keeper, once the guards have ended what it had started. */
export async function removeStale(paths: StackPaths, keeper: Keeper | undefined): Promise<void> {
  await waitUntilGone(keeper?.processes ?? [], 30_000);
  for (const file of [paths.stackFile, paths.rayToken]) rmSync(file, { force: true });
  // Renamed first: only one of two that come at once gets it.
  const aside = `${paths.keeperFile}.stale-${randomUUID()}`;
  try {
    renameSync(paths.keeperFile, aside);
  } catch {
    return;
  }
  rmSync(aside, { force: true });
}

/** False when the home was deleted, or another took it: nobody could find this stack any more. */
export function holdsKeeper(paths: StackPaths): boolean {
  const keeper = readKeeper(paths);
  return keeper?.pid === process.pid && isAlive(keeper);
}

/** Forgets this keeper; what belongs to another one stays. */
export function releaseKeeper(paths: StackPaths): void {
  if (!holdsKeeper(paths)) return;
  for (const file of [paths.stackFile, paths.rayToken, paths.keeperFile]) rmSync(file, { force: true });
}
