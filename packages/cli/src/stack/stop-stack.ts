/** Ends a stack from another process, also one that is still starting or whose keeper does not listen. @module */
import { rmSync } from 'node:fs';
import { error } from '@patchbay/protocol';
import { isAlive, readKeeper, removeStale, waitUntilGone } from './keeper.js';
import { stackPaths } from './paths.js';

const GRACE_MS = 60_000;
/** The guards end everything when their keeper is gone; this is longer than they may take. */
const KILL_MS = 40_000;

export interface StopOptions {
  /** How long the keeper may take before it is killed. */
  readonly graceMs?: number;
}

/**
 * Resolves when every process of the home's stack is gone; false when there was none.
 * @throws `PB_INTERNAL` when a process cannot be ended
 */
export async function stopStack(home: string, options: StopOptions = {}): Promise<boolean> {
  const paths = stackPaths(home);
  const keeper = readKeeper(paths);
  if (keeper === undefined || !isAlive(keeper)) {
    if (keeper !== undefined) await removeStale(paths, keeper);
    rmSync(paths.stackFile, { force: true });
    return false;
  }
  process.kill(keeper.pid, 'SIGTERM');
  if (!(await waitUntilGone([keeper], options.graceMs ?? GRACE_MS))) process.kill(keeper.pid, 'SIGKILL');
  // The list of the last moment: a part may have been started again since.
  const all = [keeper, ...keeper.processes, ...(readKeeper(paths)?.processes ?? [])];
  if (!(await waitUntilGone(all, KILL_MS))) {
    const left = all.filter(isAlive).map(({ pid }) => pid);
    throw error('PB_INTERNAL', { reason: `processes ${left.join(', ')} of the stack cannot be ended` });
  }
  if (readKeeper(paths)?.pid === keeper.pid) await removeStale(paths, undefined);
  return true;
}
