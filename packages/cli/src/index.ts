/** The `patchbay` command is `bin/patchbay.js`; scripts use `@patchbay/cli/stack`. @module */
export { startStack, stopStack, type Stack, type StackOptions, type StopOptions } from './stack/index.js';
