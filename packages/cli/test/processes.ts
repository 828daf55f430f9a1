/** Who runs: by command line, and below a process. */
import { readFileSync, readdirSync } from 'node:fs';
import { processStart } from '../src/stack/keeper.js';

const pids = (): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return ''; // gone, or not ours to read
  }
}

/** Pids of the processes whose command line names a text. */
export function processesNaming(text: string): number[] {
  return pids().filter((pid) => read(pid, 'cmdline').includes(text));
}

const parentOf = (pid: number): number => Number(/^PPid:\s*(\d+)/m.exec(read(pid, 'status'))?.[1] ?? 0);

export interface SeenProcess {
  readonly pid: number;
  readonly start: string;
  readonly command: string;
}

/** The process and everything below it. */
export function treeOf(root: number): SeenProcess[] {
  const children = new Map<number, number[]>();
  for (const pid of pids()) children.set(parentOf(pid), [...(children.get(parentOf(pid)) ?? []), pid]);
  const below = (pid: number): number[] => [pid, ...(children.get(pid) ?? []).flatMap(below)];
  return below(root).map((pid) => ({
    pid,
    start: processStart(pid),
    command: read(pid, 'cmdline').replaceAll('\0', ' '),
  }));
}
