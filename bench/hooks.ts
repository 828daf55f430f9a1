/** Runs bench/hooks.py on one and on two ranks: what a hook adds to the forward, as ratios within one run. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

export async function benchHooks(rounds: number): Promise<void> {
  const python = process.env['PATCHBAY_PYTHON'] ?? join(root, '.venv/bin/python');
  for (const tp of [1, 2]) {
    const args = [
      '-m',
      'torch.distributed.run',
      '--standalone',
      '--nproc-per-node',
      String(tp),
      join(root, 'bench/hooks.py'),
      '--rounds',
      String(rounds),
    ];
    const child = spawn(python, args, {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    });
    const [code] = (await once(child, 'exit')) as [number | null];
    if (code !== 0) throw new Error(`bench/hooks.py ended with ${String(code)}`);
  }
}
