/**
 * From the cancel of a job to the next job running on the same ranks, by what the cancelled one was doing.
 */
import { fileURLToPath } from 'node:url';
import { startStack } from '@patchbay/cli/stack';
import { HookFunction, Patchbay, linear, type JobHandle, type JobSpec } from '@patchbay/sdk';
import { quantiles } from './quantiles.js';

const MODEL = 'tiny-facts';
const CHECKPOINT = fileURLToPath(new URL('../models/tiny-facts', import.meta.url));
const inputs = { text: ['The capital of France is'] };
const SHORT: JobSpec = { model: MODEL, runs: [{ inputs, return: { topK: 1 } }] };

const edit = (body: string): HookFunction =>
  new HookFunction({
    moduleName: 'model.layers.2.mlp.gate_proj',
    editingFunction: `def edit(current_module, inputs, save_ctx, modules):\n    ${body}`,
  });

/** What is cancelled, and the event after which it is. */
const SITUATIONS: Record<string, { spec: () => JobSpec; until: string }> = {
  'an edit in an endless loop': {
    spec: () => ({
      model: MODEL,
      limits: { editTimeoutMs: 60_000 },
      runs: [{ inputs, hooks: [edit('while True: pass')] }],
    }),
    until: 'running',
  },
  'in mid-generation': {
    spec: () => ({
      model: MODEL,
      runs: [{ mode: 'generate', inputs, maxNewTokens: 100, hooks: [edit('return inputs')] }],
    }),
    until: 'token',
  },
  'in training': {
    spec: () => ({
      model: MODEL,
      modules: { m: linear(512, 512) },
      runs: [
        {
          mode: 'train',
          inputs,
          steps: 10_000,
          optimizer: { kind: 'adamw', lr: 1e-4 },
          loss: { kind: 'nextToken' },
          hooks: [edit("return inputs + modules['m'](inputs)")],
        },
      ],
    }),
    until: 'progress',
  },
};

async function reached(job: JobHandle, what: string): Promise<number> {
  for await (const event of job.events()) {
    if (event.type === what || (event.type === 'state' && event.state === what)) return performance.now();
  }
  throw new Error(`${job.id} ended before ${what}`);
}

async function whileRunning(pb: Patchbay, spec: JobSpec, until: string): Promise<number> {
  const victim = await pb.jobs.submit(spec);
  await reached(victim, until);
  const next = await pb.jobs.submit(SHORT);
  const running = reached(next, 'running');
  const start = performance.now();
  await victim.cancel();
  const ms = (await running) - start;
  await next.result();
  return ms;
}

/** Behind another job: from the cancel to the recorded end. */
async function whileQueued(pb: Patchbay): Promise<number> {
  const blocker = await pb.jobs.submit(SITUATIONS['an edit in an endless loop']!.spec());
  await reached(blocker, 'running');
  const victim = await pb.jobs.submit(SHORT);
  const start = performance.now();
  const { state } = await victim.cancel();
  const ms = performance.now() - start;
  if (state !== 'cancelled') throw new Error(`a queued job is ${state} after its cancel`);
  await blocker.cancel();
  await reached(blocker, 'cancelled');
  return ms;
}

/** The deployment is loading: from the cancel to the recorded end. */
async function whileLoading(pb: Patchbay, model: string): Promise<number> {
  const loading = pb.models.deploy({ name: model, model: CHECKPOINT, tp: 2 });
  let victim: JobHandle | undefined;
  while (victim === undefined) victim = await pb.jobs.submit({ ...SHORT, model }).catch(() => undefined);
  await reached(victim, 'placing');
  const start = performance.now();
  await victim.cancel();
  const ms = (await reached(victim, 'cancelled')) - start;
  await loading;
  await pb.models.undeploy(model);
  return ms;
}

export async function benchCancel(rounds: number): Promise<void> {
  await using stack = await startStack({ model: MODEL, tp: 2 });
  await using pb = new Patchbay({ redisUrl: stack.info.redisUrl, httpUrl: stack.info.http, token: stack.info.token });
  await (await pb.jobs.submit(SHORT)).result();
  process.stdout.write(`cancel, tp 2, ${rounds} rounds; ms${' '.repeat(24)}p50     p95     p99\n`);
  const times = async (name: string, count: number, one: (round: number) => Promise<number>): Promise<void> => {
    const values: number[] = [];
    for (let round = 0; round < count; round++) values.push(await one(round));
    process.stdout.write(`${name.padEnd(46)}${quantiles(values)}\n`);
  };
  for (const [name, { spec, until }] of Object.entries(SITUATIONS))
    await times(`${name} -> next job running`, rounds, () => whileRunning(pb, spec(), until));
  await times('queued -> cancelled', rounds, () => whileQueued(pb));
  await times('while loading -> cancelled', Math.min(rounds, 5), (round) => whileLoading(pb, `loading-${round}`));
}
