/** Finds the processes of a stack that a fault can hit. Not here: hitting them (blows.ts). */
import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Stack } from '@patchbay/cli/stack';
import type { Patchbay } from '@patchbay/sdk';

export const VICTIMS = [
  'orchestrator',
  'gateway',
  'redis',
  'supervisor',
  'rank 0',
  'rank 1',
  'zygote',
  'sandbox',
  'raylet',
  'gcs',
  'script',
] as const;
export type Victim = (typeof VICTIMS)[number];

export interface Scene {
  readonly stack: Stack;
  readonly client: Patchbay;
  readonly home: string;
  readonly model: string;
}

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/** How long a process may take to appear that a phase begins with. */
const APPEARS_MS = 5_000;

const read = (path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // gone meanwhile
  }
};

function processes(): Process[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => {
      const stat = read(`/proc/${name}/stat`);
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      return { pid: Number(name), parent, command: read(`/proc/${name}/cmdline`).replaceAll('\0', ' ') };
    });
}

function descendants(all: readonly Process[], pid: number): Process[] {
  return all.filter(({ parent }) => parent === pid).flatMap((one) => [one, ...descendants(all, one.pid)]);
}

/** Pids of our processes whose command line begins so, in the order in which they were started. */
export function ours({ home }: Scene, beginning: string): number[] {
  return processes()
    .filter(({ pid, command }) => command.startsWith(beginning) && read(`/proc/${pid}/environ`).includes(home))
    .map(({ pid }) => pid)
    .sort((a, b) => a - b);
}

/** Pids of the ranks of a deployment, by rank, as the orchestrator knows them. */
export async function ranksOf({ client }: Scene, model: string): Promise<number[]> {
  const replica = (await client.models.list()).find(({ spec }) => spec.name === model)?.replicas[0];
  return [...(replica?.ranks ?? [])].sort((a, b) => a.rank - b.rank).map(({ pid }) => pid);
}

export const RANK = 'ray::Rank';
export const SUPERVISOR = 'ray::GroupSupervisor';

/**
 * The pid to hit; undefined when there is no such process in this phase.
 * @param old - actors of Ray that are not of the job's own deployment
 */
export async function find(
  scene: Scene,
  victim: Victim,
  model: string,
  old: readonly number[],
): Promise<number | undefined> {
  const part = scene.stack.info.processes.find(({ name }) => name === victim);
  if (part !== undefined) return part.pid;
  for (const end = Date.now() + APPEARS_MS; ; await sleep(20)) {
    const pid = await look(scene, victim, model, old);
    if (pid !== undefined || Date.now() > end) return pid;
  }
}

async function look(scene: Scene, victim: Victim, model: string, old: readonly number[]): Promise<number | undefined> {
  const fresh = (beginning: string): number[] => ours(scene, beginning).filter((pid) => !old.includes(pid));
  const rank = async (index: number): Promise<number | undefined> => {
    const known = (await ranksOf(scene, model)).filter(exists);
    return (known.length > 0 ? known : fresh(RANK))[index];
  };
  switch (victim) {
    case 'supervisor':
      return fresh(SUPERVISOR)[0];
    case 'raylet':
    case 'gcs': {
      const binary = victim === 'raylet' ? '/raylet/raylet ' : '/gcs/gcs_server ';
      const found = processes().filter(({ command }) => command.includes(binary));
      return found.find(({ pid }) => read(`/proc/${pid}/environ`).includes(scene.home))?.pid;
    }
    case 'rank 0':
    case 'rank 1':
      return rank(Number(victim.slice(-1)));
    case 'zygote':
    case 'sandbox': {
      const all = processes();
      const root = await rank(0);
      const below = root === undefined ? [] : descendants(all, root);
      const zygote = below.find(({ command }) => command.includes('zygote'));
      if (victim === 'zygote' || zygote === undefined) return zygote?.pid;
      // that of the last job may not have gone yet
      return Math.max(0, ...descendants(all, zygote.pid).map(({ pid }) => pid)) || undefined;
    }
    default:
      return undefined;
  }
}

export const exists = (pid: number): boolean => {
  const stat = read(`/proc/${pid}/stat`);
  return stat !== '' && !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
};
