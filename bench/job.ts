/** How much time a warm job takes beyond the model's forward, from the SDK call to the result in the script. */
import { setTimeout as sleep } from 'node:timers/promises';
import { startStack } from '@patchbay/cli/stack';
import { HookFunction, Patchbay } from '@patchbay/sdk';
import { quantiles } from './quantiles.js';

export interface JobBenchOptions {
  readonly jobs: number;
  /** Pause before each job: threads asleep and caches cold, the honest case. */
  readonly gapMs: number;
  readonly tp: number;
}

const MODEL = 'tiny-facts';
const WARM_UP = 30;

function row(name: string, values: readonly number[]): string {
  return `${name.padEnd(34)}${quantiles(values)}`;
}

async function measure(pb: Patchbay, withEdit: boolean, options: JobBenchOptions): Promise<Map<string, number[]>> {
  const series = new Map<string, number[]>();
  const add = (name: string, value: number): void => void series.set(name, [...(series.get(name) ?? []), value]);
  for (let index = -WARM_UP; index < options.jobs; index++) {
    await sleep(options.gapMs);
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
    const result = await job.result();
    const wall = performance.now() - start;
    if (index < 0) continue;
    const { timings } = result.json;
    add('SDK call to result', wall);
    add('beyond the forward', wall - (timings['forwardMs'] ?? 0));
    for (const [phase, ms] of Object.entries(timings)) add(`  ${phase}`, ms);
  }
  return series;
}

export async function benchJob(options: JobBenchOptions): Promise<void> {
  const started = performance.now();
  await using stack = await startStack({ model: MODEL, tp: options.tp });
  await using pb = new Patchbay({ redisUrl: stack.info.redisUrl, httpUrl: stack.info.http, token: stack.info.token });
  const first = await pb.jobs.submit({ model: MODEL, runs: [{ inputs: { text: ['The capital of France is'] } }] });
  await first.result();
  process.stdout.write(`cold start to first result: ${((performance.now() - started) / 1000).toFixed(1)} s\n`);
  for (const withEdit of [false, true]) {
    const series = await measure(pb, withEdit, options);
    const title = withEdit ? 'one python edit on a sharded module' : 'no hook';
    process.stdout.write(`\n${title}: tp ${options.tp}, ${options.jobs} jobs, ${options.gapMs} ms apart; ms\n`);
    process.stdout.write(`${''.padEnd(34)}${['p50', 'p95', 'p99'].map((q) => q.padStart(8)).join('')}\n`);
    for (const [name, values] of series) process.stdout.write(`${row(name, values)}\n`);
  }
}
