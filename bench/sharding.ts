/** Runs bench/sharding.py on one mesh after the other: what a hook adds to a pass, as ratios within one run. */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
type Sizes = Readonly<Record<string, number>>;

const MESHES: readonly Sizes[] = [{ tp: 1 }, { tp: 2 }, { dp: 2 }, { pp: 2 }];

interface Measured {
  readonly mesh: Sizes;
  readonly gatheredBytes: { readonly reported: number; readonly formula: number };
  readonly cases: readonly { case: string; medianMs: number; ratio: number; msPerHook: number }[];
}

async function measure(mesh: Sizes, rounds: number): Promise<Measured> {
  const ranks = Object.values(mesh).reduce((product, size) => product * size, 1);
  const axes = Object.entries(mesh).flatMap(([axis, size]) => [`--${axis}`, String(size)]);
  const child = spawn(
    process.env['PATCHBAY_PYTHON'] ?? join(root, '.venv/bin/python'),
    ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', String(ranks), join(root, 'bench/sharding.py'),
      '--rounds', String(rounds), ...axes], // prettier-ignore
    { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, OMP_NUM_THREADS: '1', PYTHONHASHSEED: '0' } },
  );
  const lines = (await text(child.stdout)).trim().split('\n');
  return JSON.parse(lines.at(-1)!) as Measured;
}

function show({ mesh, gatheredBytes, cases }: Measured): void {
  const name = Object.entries(mesh).map(([axis, size]) => `${axis} ${size}`);
  process.stdout.write(
    `\n${name.join(', ')}: gathered ${gatheredBytes.reported} bytes, formula ${gatheredBytes.formula}\n`,
  );
  for (const { case: what, medianMs, ratio, msPerHook } of cases) {
    const added = `${msPerHook >= 0 ? '+' : ''}${msPerHook.toFixed(3)}`;
    process.stdout.write(
      `  ${what.padEnd(34)} ${medianMs.toFixed(2).padStart(9)} ms ${ratio.toFixed(2).padStart(6)} x ${added.padStart(9)} ms per hook\n`,
    );
  }
}

/** Prints every mesh and keeps the numbers in bench/results/<name>.json. */
export async function benchSharding(rounds: number, name = 'sharding', meshes = MESHES): Promise<void> {
  const results: Measured[] = [];
  for (const mesh of meshes) {
    const measured = await measure(mesh, rounds);
    show(measured);
    results.push(measured);
  }
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
