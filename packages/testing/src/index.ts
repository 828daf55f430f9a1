/**
 * For the tests of scripts that use Patchbay: a real stack of their own, and tiny models that are the same every time.
 *
 * ```ts
 * import { makeTinyModel, startLocalStack } from '@patchbay/testing';
 *
 * await using local = await startLocalStack({ model: 'tiny-facts', tp: 2 });
 * const job = await local.patchbay.jobs.submit({ model: 'tiny-facts', runs: [{ inputs: { text: ['The capital of France is'] } }] });
 * ```
 * @module
 */
export { startLocalStack, type LocalStack, type LocalStackOptions } from './local-stack.js';
export { makeTinyModel, type TinyModel, type TinyModelOptions } from './tiny-model.js';
