/** Runs a Python file of bench/ on the ranks of a mesh and reads the JSON that rank 0 prints last. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

export type Sizes = Readonly<Record<string, number>>;

export async function onRanks<T>(script: string, mesh: Sizes, options: Sizes): Promise<T> {
  const ranks = Object.values(mesh).reduce((product, size) => product * size, 1);
  const given = Object.entries({ ...mesh, ...options }).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const child = spawn(
    process.env['PATCHBAY_PYTHON'] ?? join(root, '.venv/bin/python'),
    ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', String(ranks), join(root, 'bench', script),
      ...given], // prettier-ignore
    { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, OMP_NUM_THREADS: '1', PYTHONHASHSEED: '0' } },
  );
  const [printed, [code]] = await Promise.all([text(child.stdout), once(child, 'close') as Promise<[number | null]>]);
  if (code !== 0) throw new Error(`${script} on ${nameOf(mesh)} ended with ${code}`);
  return JSON.parse(printed.trim().split('\n').at(-1)!) as T;
}

export function nameOf(mesh: Sizes): string {
  return Object.entries(mesh)
    .map(([axis, size]) => `${axis} ${size}`)
    .join(', ');
}

/** bench/results/<name>.json, with what it was measured on. */
export function keep(name: string, results: unknown): void {
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
  };
  mkdirSync(join(root, 'bench/results'), { recursive: true });
  const file = join(root, `bench/results/${name}.json`);
  writeFileSync(file, `${JSON.stringify({ at: new Date().toISOString(), machine, results }, null, 2)}\n`);
}
