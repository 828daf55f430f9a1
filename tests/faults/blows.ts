/** What can happen to a process, and when it is over. Linux. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT } from '../support/stack.js';
import { exists } from './victims.js';

/** `cut`: every connection that it has breaks, once; it lives and may connect again. */
export const BLOWS = ['kill', 'stop', 'cut'] as const;
export type Blow = (typeof BLOWS)[number];

/** Longer than the lease of a job. */
export const STOPPED_MS = 7_000;

/** Resolves to how long it lasted: the time that nobody could have saved. */
export async function deal(blow: Blow, pid: number): Promise<number> {
  if (blow === 'cut') {
    execFileSync(join(ROOT, '.venv/bin/python'), [join(ROOT, 'tests/support/cut.py'), String(pid)], {
      stdio: 'ignore',
    });
    return 0;
  }
  process.kill(pid, blow === 'kill' ? 'SIGKILL' : 'SIGSTOP');
  if (blow === 'kill') return 0;
  await sleep(STOPPED_MS);
  if (!exists(pid)) return 0; // it was replaced meanwhile
  process.kill(pid, 'SIGCONT');
  return STOPPED_MS;
}
