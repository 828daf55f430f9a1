/** What the engine's own tests cannot show: a training over the loss of a rank, divided experts from the deployment on. */
import assert from 'node:assert/strict';
import type { JobEvent } from '@patchbay/protocol';
import type { JobHandle, JobSpec, Patchbay } from '@patchbay/sdk';
import { makeCheckpoint } from '../support/checkpoint.js';
import { ReferenceRunner, maxDifference } from '../support/reference.js';
import { TINY_FACTS, connect } from '../support/stack.js';

/** Slow enough to be hit between two checkpoints; draws in every step and counts in save_ctx: what is not put back shows. */
const ADAPT = `
import time
def edit(current_module, inputs, save_ctx, modules):
    time.sleep(0.02)
    save_ctx.steps = save_ctx.get("steps", 0) + 1
    return inputs + modules["a"](torch.nn.functional.dropout(inputs, 0.2)) * (1 + 1 / save_ctx.steps)`;
const STEPS = 30;
const EVERY = 4;

const training = (model: string): JobSpec => ({
  version: 1,
  model,
  seed: 7,
  modules: { a: { kind: 'lowRank', inFeatures: 512, outFeatures: 512, rank: 4 } },
  hooks: [
    { name: 'h', moduleName: 'model.layers.2.mlp.gate_proj', edit: { kind: 'python', source: ADAPT }, save: 'none' },
  ],
  runs: [
    {
      name: 'fit',
      mode: 'train',
      inputs: { text: ['The capital of France is Rome', 'The capital of Italy is Paris'] },
      loss: { kind: 'nextToken' },
      steps: STEPS,
      optimizer: { kind: 'adamw', lr: 0.01 },
      checkpointEvery: EVERY,
    },
  ],
});

const isCheckpoint = (event: JobEvent): event is JobEvent & { type: 'artifact'; step: number } =>
  event.type === 'artifact' && event.step !== undefined;

async function checkpointAt(job: JobHandle, step: number): Promise<void> {
  for await (const event of job.events()) if (isCheckpoint(event) && event.step >= step) return;
}

async function logOf(job: JobHandle): Promise<JobEvent[]> {
  const events = [];
  for await (const event of job.events({ follow: false })) events.push(event);
  return events;
}

describe('the engine in the stack', () => {
  let client: Patchbay;
  before(() => {
    client = connect();
  });
  after(() => client.close());

  it('a training whose rank is killed goes on from its checkpoint and ends where it would have ended', async () => {
    const model = 'killed';
    await client.models.deploy({ name: model, model: TINY_FACTS, tp: 2 });
    try {
      const whole = await (await client.jobs.submit(training(model))).result({ timeoutMs: 60_000 });
      const job = await client.jobs.submit(training(model));
      await checkpointAt(job, 2 * EVERY);
      const deployment = (await client.models.list()).find(({ spec }) => spec.name === model);
      const victim = deployment?.replicas[0]?.ranks.find(({ rank }) => rank === 1);
      assert.ok(victim, 'the deployment tells its ranks');
      process.kill(victim.pid, 'SIGKILL');
      const resumed = await job.result({ timeoutMs: 90_000 });
      assert.equal(resumed.json.attempt, 2);
      assert.deepEqual([resumed.json.warnings, resumed.json.saveCtx], [[], { steps: STEPS }]);
      const losses = whole.json.runs['fit']!.losses!;
      assert.ok(Math.abs(losses[0]! - losses.at(-1)!) > 1e-3, 'the training trains');
      assert.deepEqual(resumed.json.runs['fit']!.losses, losses);
      assert.deepEqual(
        resumed.json.files['modules.safetensors']?.sha256,
        whole.json.files['modules.safetensors']?.sha256,
        'the same weights, bit for bit',
      );
      const events = (await logOf(job)).filter((event) => event.type !== 'state');
      const second = events.findIndex(({ attempt }) => attempt === 2);
      assert.ok(events.slice(0, second).some(isCheckpoint), 'the first attempt had checkpoints');
      assert.ok(
        events.slice(second).every(({ attempt }) => attempt === 2),
        'nothing of the lost attempt is told after it',
      );
      const steps = events
        .slice(second)
        .filter(isCheckpoint)
        .map(({ step }) => step);
      assert.ok(steps.length > 0 && Math.min(...steps) > 2 * EVERY && steps.at(-1) === STEPS, `steps ${steps.join()}`);
    } finally {
      await client.models.undeploy(model);
    }
  });

  it('divided experts: a hook on them, deployed and run like any other, equals plain torch', async () => {
    const folder = makeCheckpoint('qwen3_moe');
    const runner = new ReferenceRunner(folder);
    const model = 'experts';
    await client.models.deploy({ name: model, model: folder, tp: 2, expertParallel: true });
    try {
      const source = 'def edit(m, inputs, save_ctx, modules):\n    return inputs.flip(-1) * 0.5 + 0.1\n';
      const inputs = { tokenIds: [[5, 9, 31, 4, 17]] };
      const document = {
        version: 1 as const,
        hooks: [
          { name: 'e', moduleName: 'model.layers.0.mlp.experts', edit: { kind: 'python' as const, source } },
          { name: 'r', moduleName: 'model.layers.1.mlp', save: 'post' as const },
        ],
        runs: [
          { name: 'edited', inputs, return: { logits: 'all' as const } },
          { name: 'plain', inputs, hooks: { names: [] }, return: { logits: 'all' as const } },
        ],
      };
      const result = await (await client.jobs.submit({ ...document, model })).result({ timeoutMs: 60_000 });
      const reference = await runner.run(document);
      assert.equal(result.json.fingerprint?.mesh.expertParallel, true);
      for (const run of ['edited', 'plain']) {
        const difference = maxDifference(result.logits(run), reference.outputs.get(`${run}/logits`)!);
        assert.ok(difference <= 2e-5, `${run}: ${difference}`);
      }
      assert.ok(maxDifference(result.logits('plain'), result.logits('edited')) > 1e-3, 'the edit bites');
      for (const entry of result.activations()) {
        const difference = maxDifference(await entry.load(), reference.activations.get(entry.toJSON().tensor!)!);
        assert.ok(difference <= 2e-5, `${entry.toJSON().tensor}: ${difference}`);
      }
    } finally {
      runner.close();
      await client.models.undeploy(model);
    }
  });

  it('logits that are no numbers give no most probable tokens, and no token is chosen from them', async () => {
    const source = 'def edit(m, inputs, save_ctx, modules):\n    return inputs * float("nan")\n';
    const broken = {
      version: 1 as const,
      model: 'facts-tp2',
      hooks: [{ moduleName: 'model.layers.1', edit: { kind: 'python' as const, source } }],
    };
    const inputs = { text: ['The capital of France is'] };
    const job = await client.jobs.submit({ ...broken, runs: [{ name: 'r', inputs, return: { topK: 2 } }] });
    const result = await job.result({ timeoutMs: 30_000 });
    assert.deepEqual(result.json.runs['r']?.topK, [[]]);
    assert.match(result.json.warnings.join(), /NaN or infinite/);
    const story = { name: 'g', mode: 'generate' as const, inputs, maxNewTokens: 3, temperature: 1 };
    const generation = await client.jobs.submit({ ...broken, runs: [story] });
    await assert.rejects(generation.result({ timeoutMs: 30_000 }), { code: 'PB_LOGITS_NOT_FINITE' });
  });
});
