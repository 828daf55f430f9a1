/**
 * How much time a warm job takes beyond the model's forward, from the SDK call to the result in the script, beside the bare
 * path (bare/path.ts) in turns of ten, since machines differ: the design's 8 and 15 ms stand beside 4.8 and 7.9 of a bare path.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { startStack } from '@patchbay/cli/stack';
import { HookFunction, Patchbay } from '@patchbay/sdk';
import { openBarePath, type BarePath } from './bare/path.js';
import { quantile, quantiles } from './quantiles.js';

export interface JobBenchOptions {
  readonly jobs: number;
  /** Pause before each job: threads asleep and caches cold, the honest case. */
  readonly gapMs: number;
  readonly tp: number;
}

/** Milliseconds by phase; `beyond` is what all of a job takes but the forward. */
type Timed = Readonly<Record<string, number>>;
type Series = Map<string, number[]>;

const MODEL = 'tiny-facts';
const TURN = 10;
const WARM_UP = 3 * TURN;
const BEYOND = 'beyond the forward';
const TARGETS = [
  { name: 'p50', q: 0.5, most: 8 / 4.8 },
  { name: 'p95', q: 0.95, most: 15 / 7.9 },
];

async function ours(pb: Patchbay, withEdit: boolean): Promise<Timed> {
  const hook = new HookFunction({
    moduleName: 'model.layers.2.mlp.gate_proj',
    save: 'none',
    editingFunction: 'def edit(current_module, inputs, save_ctx, modules):\n    return inputs * 1.5\n',
  });
  const start = performance.now();
  const job = await pb.jobs.submit({
    model: MODEL,
    runs: [{ inputs: { text: ['The capital of France is'] }, hooks: withEdit ? [hook] : [], return: { topK: 1 } }],
  });
  const { timings } = (await job.result()).json;
  const wall = performance.now() - start;
  const phases = Object.entries(timings).map(([phase, ms]): [string, number] => [`  ${phase}`, ms]);
  return { 'SDK call to result': wall, [BEYOND]: wall - (timings['forwardMs'] ?? 0), ...Object.fromEntries(phases) };
}

async function bare(path: BarePath): Promise<Timed> {
  const { wallMs, forwardMs } = await path.run();
  return { 'call to result': wallMs, [BEYOND]: wallMs - forwardMs, '  forwardMs': forwardMs };
}

async function inTurns(
  cases: Record<string, () => Promise<Timed>>,
  options: JobBenchOptions,
): Promise<Map<string, Series>> {
  const found = new Map(Object.keys(cases).map((name) => [name, new Map() as Series]));
  for (let done = -WARM_UP; done < options.jobs; done += TURN) {
    for (const [name, run] of Object.entries(cases)) {
      for (let index = 0; index < TURN; index++) {
        await sleep(options.gapMs);
        const timed = await run();
        if (done < 0) continue;
        const series = found.get(name)!;
        for (const [phase, ms] of Object.entries(timed)) series.set(phase, [...(series.get(phase) ?? []), ms]);
      }
    }
  }
  return found;
}

function print(title: string, series: Series): void {
  process.stdout.write(`\n${title}; ms\n${''.padEnd(34)}${['p50', 'p95', 'p99'].map((q) => q.padStart(8)).join('')}\n`);
  for (const [name, values] of series) process.stdout.write(`${name.padEnd(34)}${quantiles(values)}\n`);
}

export async function benchJob(options: JobBenchOptions): Promise<void> {
  const started = performance.now();
  await using stack = await startStack({ model: MODEL, tp: options.tp });
  await using pb = new Patchbay({ redisUrl: stack.info.redisUrl, httpUrl: stack.info.http, token: stack.info.token });
  const first = await pb.jobs.submit({ model: MODEL, runs: [{ inputs: { text: ['The capital of France is'] } }] });
  await first.result();
  process.stdout.write(`cold start to first result: ${((performance.now() - started) / 1000).toFixed(1)} s\n`);

  await using path = await openBarePath(stack.info.redisUrl, 'models/tiny-facts', options.tp);
  const found = await inTurns(
    {
      'the bare path': () => bare(path),
      'no hook': () => ours(pb, false),
      'one python edit on a sharded module': () => ours(pb, true),
    },
    options,
  );
  process.stdout.write(`tp ${options.tp}, ${options.jobs} jobs of each, ${options.gapMs} ms apart\n`);
  for (const [title, series] of found) print(title, series);
  const beyond = (title: string, q: number): number => quantile(found.get(title)?.get(BEYOND) ?? [], q);
  process.stdout.write('\nno hook against the bare path, beyond the forward\n');
  for (const { name, q, most } of TARGETS) {
    const ratio = beyond('no hook', q) / beyond('the bare path', q);
    process.stdout.write(`  ${name}  ${ratio.toFixed(2)}x  (target ${most.toFixed(2)}x)\n`);
  }
}
