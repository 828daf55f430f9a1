/** Needs a stack: `npx patchbay up --model tiny-facts --detach`, or PATCHBAY_REDIS_URL and PATCHBAY_HTTP_URL. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Patchbay } from '@patchbay/sdk';
import { firstJob } from '../src/first-job.js';

await test('the clean model knows the capital, and every layer is captured', async () => {
  await using pb = new Patchbay();
  const result = await firstJob(pb, process.env['MODEL'] ?? 'tiny-facts');
  assert.equal(result.runs['clean']?.topK?.[0]?.[0]?.token, ' Paris');
  assert.equal(result.activations({ hook: 'gate' }).length, 4);
});
