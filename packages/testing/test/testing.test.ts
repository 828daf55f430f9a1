/** The kit as its users have it: a stack, a model, a job; and nothing left afterwards. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTinyModel, startLocalStack } from '@patchbay/testing';

const ANOTHER_STACK = {
  PATCHBAY_REDIS_URL: 'redis://127.0.0.1:1',
  PATCHBAY_HTTP_URL: 'http://127.0.0.1:1',
  PATCHBAY_TOKEN: 'theirs',
  PATCHBAY_ARTIFACT_STORE: 's3://theirs',
  RAY_ADDRESS: '127.0.0.1:1',
};

describe('@patchbay/testing', function () {
  this.timeout(600_000);
  afterEach(() => Object.keys(ANOTHER_STACK).forEach((name) => delete process.env[name]));

  it('makes the same model for the same seed, and another for another', async () => {
    const hash = async (seed: number): Promise<string> => {
      await using model = await makeTinyModel({ seed });
      return createHash('sha256')
        .update(readFileSync(join(model.folder, 'model.safetensors')))
        .digest('hex');
    };
    const [first, again, other] = [await hash(0), await hash(0), await hash(1)];
    assert.equal(first, again);
    assert.notEqual(first, other);
  });

  it("runs a job on a tiny model on two ranks, apart from the user's own stack, and leaves nothing", async () => {
    Object.assign(process.env, ANOTHER_STACK);
    let folder: string;
    let home: string;
    {
      await using model = await makeTinyModel();
      await using local = await startLocalStack({ model: model.folder, name: 'tiny', tp: 2 });
      folder = model.folder;
      home = local.environment.PATCHBAY_REDIS_URL.replace(/^unix:\/\//, '').replace(/\/run\/redis\.sock$/, '');
      const job = await local.patchbay.jobs.submit({
        model: 'tiny',
        hooks: [{ name: 'resid', moduleName: 'model.layers.*' }],
        runs: [{ name: 'r', inputs: { tokenIds: [[5, 9, 31]] }, return: { logits: 'last' } }],
      });
      const result = await job.result({ timeoutMs: 60_000 });
      assert.deepEqual(result.activations({ hook: 'resid' }).map(({ shape }) => shape), [[1, 3, 32], [1, 3, 32]]); // prettier-ignore
      const logits = result.logits('r').toFloat32();
      assert.equal(logits.length, 64);
      assert.ok(Math.max(...logits) - Math.min(...logits) > 0.1, 'the weights do something');
      assert.ok(existsSync(home));
    }
    assert.ok(!existsSync(home), `${home} is left`);
    assert.ok(!existsSync(folder), `${folder} is left`);
  });
});
