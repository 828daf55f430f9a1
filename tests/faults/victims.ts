/** Finds the processes of a stack that a fault can hit. Not here: hitting them (strike.ts). */
import { readFileSync, readdirSync } from 'node:fs';
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

/** Pids of the ranks of the deployment, by rank. */
export async function rankPids({ client, model }: Scene): Promise<number[]> {
  const { models } = { models: await client.models.list() };
  const replica = models.find(({ spec }) => spec.name === model)?.replicas[0];
  return [...(replica?.ranks ?? [])].sort((a, b) => a.rank - b.rank).map(({ pid }) => pid);
}

/** The pid to hit; undefined when there is no such process now. */
export async function find(scene: Scene, victim: Victim): Promise<number | undefined> {
  const part = scene.stack.info.processes.find(({ name }) => name === victim);
  if (part !== undefined) return part.pid;
  const all = processes();
  const ours = (pid: number): boolean => read(`/proc/${pid}/environ`).includes(scene.home);
  switch (victim) {
    case 'supervisor':
      return all.find(({ pid, command }) => command.startsWith('ray::GroupSupervisor') && ours(pid))?.pid;
    case 'raylet':
      return all.find(({ pid, command }) => command.includes('/raylet/raylet ') && ours(pid))?.pid;
    case 'rank 0':
    case 'rank 1':
      return (await rankPids(scene))[Number(victim.slice(-1))];
    case 'zygote':
    case 'sandbox': {
      const root = (await rankPids(scene))[0];
      const below = root === undefined ? [] : descendants(all, root);
      const zygote = below.find(({ command }) => command.includes('zygote'));
      if (victim === 'zygote' || zygote === undefined) return zygote?.pid;
      return descendants(all, zygote.pid)[0]?.pid;
    }
    default:
      return undefined;
  }
}

export const exists = (pid: number): boolean => {
  const stat = read(`/proc/${pid}/stat`);
  return stat !== '' && !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
};
