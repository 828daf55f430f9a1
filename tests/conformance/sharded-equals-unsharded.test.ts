/** Sharded = unsharded: every case on every mesh against plain torch hooks on the whole model in one process. */
import assert from 'node:assert/strict';
import type { JobResult, Patchbay } from '@patchbay/sdk';
import { ReferenceRunner, maxDifference, type Reference } from '../support/reference.js';
import { DEPLOYMENTS, TINY_FACTS, connect } from '../support/stack.js';
import { recordDifference } from '../support/conformance-table.js';
import { CASES, TOLERANCE, type Case } from './cases.js';

/** An edit has to bite, or the comparison could not fail. */
const EFFECT = 1e-3;

async function compareCaptures(result: JobResult, reference: Reference): Promise<number> {
  const captured = result.activations();
  assert.deepEqual(new Set(captured.map((entry) => entry.toJSON().tensor)), new Set(reference.activations.keys()));
  let largest = 0;
  for (const entry of captured) {
    const key = entry.toJSON().tensor!;
    const difference = maxDifference(await entry.load(), reference.activations.get(key)!);
    assert.ok(difference <= TOLERANCE, `${key}: ${difference}`);
    largest = Math.max(largest, difference);
  }
  return largest;
}

function compareLogits(result: JobResult, reference: Reference): number {
  let largest = 0;
  for (const [key, want] of reference.outputs) {
    const difference = maxDifference(result.logits(key.split('/')[0]!), want);
    assert.ok(difference <= TOLERANCE, `${key}: ${difference}`);
    largest = Math.max(largest, difference);
  }
  return largest;
}

async function assertEffect(test: Case, reference: Reference, runner: ReferenceRunner): Promise<void> {
  if (test.edited.length === 0) return;
  const runs = test.document.runs
    .filter((run) => run.mode !== 'train')
    .map((run) => ({ ...run, hooks: { names: [] } }));
  const plain = await runner.run({ runs });
  for (const run of test.edited) {
    const change = maxDifference(plain.outputs.get(`${run}/logits`)!, reference.outputs.get(`${run}/logits`)!);
    assert.ok(change > EFFECT, `${run}: the edit changes the logits by ${change} only`);
  }
}

describe('sharded equals unsharded', () => {
  let client: Patchbay;
  let runner: ReferenceRunner;
  before(() => {
    client = connect();
    runner = new ReferenceRunner(TINY_FACTS);
  });
  after(async () => {
    runner.close();
    await client.close();
  });

  for (const test of CASES) {
    describe(test.name, () => {
      let reference: Reference | undefined;

      for (const deployment of Object.keys(DEPLOYMENTS)) {
        it(deployment, async () => {
          const job = await client.jobs.submit({ ...test.document, model: deployment });
          const result = await job.result();
          if (reference === undefined) {
            reference = await runner.run(test.document);
            await assertEffect(test, reference, runner);
          }
          const differences = [compareLogits(result, reference), await compareCaptures(result, reference)];
          for (const [name, want] of reference.saveCtx) {
            assert.ok(maxDifference(result.saveCtx.tensor(name), want) <= TOLERANCE * 10, `save_ctx.${name}`);
          }
          for (const [name, run] of Object.entries(reference.runs)) {
            assert.deepEqual(result.json.runs[name]?.generatedTokenIds, run.generatedTokenIds);
          }
          const calls = result.json.hooks.filter((hook) => hook.route !== 'read' && hook.route !== 'none');
          assert.equal(
            calls.reduce((sum, hook) => sum + hook.calls, 0),
            reference.editCalls,
            'an edit runs once per call',
          );
          recordDifference(test.name, deployment, Math.max(...differences));
        });
      }
    });
  }
});
