/**
 * The local stack, for scripts, tests and demos.
 *
 *     await using stack = await startStack({ model: 'tiny-facts', tp: 2 });
 *     await using pb = new Patchbay({ redisUrl: stack.info.redisUrl, httpUrl: stack.info.http, token: stack.info.token });
 * @module
 */
export { startStack, type Stack, type StackOptions } from './start-stack.js';
export { stopStack, type StopOptions } from './stop-stack.js';
