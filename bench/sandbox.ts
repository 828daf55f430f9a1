/**
 * Runs bench/sandbox.py, then a whole job at the level of this machine and at `trusted`, and holds both to the figures that the
 * design promises. Shares of one run, since machines differ; what is over is said, not failed.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { startStack } from '@patchbay/cli/stack';
import { HookFunction, Patchbay } from '@patchbay/sdk';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const WARM_UP = 20;

interface Spread {
  readonly p50: number;
}
interface Measured {
  readonly inProcessUs: Spread;
  readonly memcpyPairUs: Readonly<Record<'1KB' | '1MB' | '42MB', number>>;
  readonly roundTripUs: Readonly<Record<'isolated' | 'trusted', Readonly<Record<'1KB' | '1MB' | '42MB', Spread>>>>;
  readonly lockDownShare: number;
  readonly lifeMs: Readonly<Record<'refill' | 'handOver' | 'killAndReap' | 'privateMiB', Spread>>;
  readonly gradientsEqual: boolean;
}
type Row = readonly [what: string, found: number, most: number, unit: string];

async function measure(rounds: number): Promise<Measured> {
  const python = process.env['PATCHBAY_PYTHON'] ?? join(root, '.venv/bin/python');
  const path = ['packages/worker-py/src', 'packages/protocol/gen/py'].map((folder) => join(root, folder)).join(':');
  const child = spawn(python, [join(root, 'bench/sandbox.py'), String(rounds)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PYTHONPATH: path, OMP_NUM_THREADS: '1' },
  });
  return JSON.parse(await text(child.stdout)) as Measured;
}

/** Median wall time of a job with one python edit, in milliseconds. */
async function wholeJob(jobs: number, level: 'auto' | 'trusted'): Promise<number> {
  const before = process.env['PATCHBAY_SANDBOX_LEVEL'];
  process.env['PATCHBAY_SANDBOX_LEVEL'] = level;
  try {
    const minimum = level === 'trusted' ? { sandboxMinimum: level } : {};
    await using stack = await startStack({ model: 'tiny-facts', tp: 2, ...minimum });
    const { redisUrl, http, token } = stack.info;
    await using pb = new Patchbay({ redisUrl, httpUrl: http, token });
    const taken: number[] = [];
    for (let index = -WARM_UP; index < jobs; index++) {
      const hook = new HookFunction({
        moduleName: 'model.layers.2.mlp.gate_proj',
        save: 'none',
        editingFunction: 'def edit(current_module, inputs, save_ctx, modules):\n    return inputs * 1.5\n',
      });
      const begun = performance.now();
      const job = await pb.jobs.submit({
        model: 'tiny-facts',
        runs: [{ inputs: { text: ['The capital of France is'] }, hooks: [hook] }],
      });
      await job.result();
      if (index >= 0) taken.push(performance.now() - begun);
    }
    return taken.sort((one, other) => one - other)[Math.floor(taken.length / 2)]!;
  } finally {
    if (before === undefined) delete process.env['PATCHBAY_SANDBOX_LEVEL'];
    else process.env['PATCHBAY_SANDBOX_LEVEL'] = before;
  }
}

/** What the design promises (docs/security.md), each against the same run's own baseline where it is a ratio. */
function rows(found: Measured): Row[] {
  const { isolated } = found.roundTripUs;
  const { memcpyPairUs, lifeMs } = found;
  return [
    ['empty edit, 1 KB, per in-process call (at least 1 us)', isolated['1KB'].p50 / Math.max(1, found.inProcessUs.p50), 30, 'x'],
    ['1 MB there and back, per memcpy pair', isolated['1MB'].p50 / memcpyPairUs['1MB'], 4, 'x'],
    ['42 MB there and back, per memcpy pair', isolated['42MB'].p50 / memcpyPairUs['42MB'], 2.5, 'x'],
    ['lock-down, share of a round trip', found.lockDownShare * 100, 10, '%'],
    ['hand-over', lifeMs.handOver.p50, 5, 'ms'],
    ['refill', lifeMs.refill.p50, 60, 'ms'],
    ['kill and reap', lifeMs.killAndReap.p50, 100, 'ms'],
    ['private memory of an idle job', lifeMs.privateMiB.p50, 30, 'MiB'],
  ]; // prettier-ignore
}

/** Prints the table and keeps the numbers in bench/results/sandbox.json. */
export async function benchSandbox(rounds: number, jobs: number): Promise<void> {
  const found = await measure(rounds);
  const table = rows(found);
  for (const [what, value, most, unit] of table) {
    const verdict = value <= most ? 'ok' : 'OVER';
    process.stdout.write(
      `${what.padEnd(56)}${value.toFixed(1).padStart(9)} ${unit.padEnd(4)} <= ${most}  ${verdict}\n`,
    );
  }
  process.stdout.write(
    `${'gradients equal to those in process'.padEnd(56)}${String(found.gradientsEqual).padStart(9)}\n`,
  );
  const whole =
    jobs === 0 ? undefined : { here: await wholeJob(jobs, 'auto'), trusted: await wholeJob(jobs, 'trusted') };
  if (whole !== undefined)
    process.stdout.write(`whole job, tp 2: ${whole.here.toFixed(1)} ms, trusted ${whole.trusted.toFixed(1)} ms\n`);
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memory: totalmem(),
    kernel: release(),
    node: process.version,
  };
  const folder = join(root, 'bench/results');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'sandbox.json');
  writeFileSync(
    file,
    `${JSON.stringify({ at: new Date().toISOString(), machine, ...found, wholeJobMs: whole }, null, 2)}\n`,
  );
  process.stdout.write(`written to ${file}\n`);
}
