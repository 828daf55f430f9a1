/** What a sandbox level means for the one who runs edits. @module */
import type { SANDBOX_LEVELS } from '@patchbay/protocol';

const meaning: Readonly<Record<(typeof SANDBOX_LEVELS)[number], string>> = {
  trusted: 'edits run with the rights of the worker; run only code that you trust',
  filtered: 'edits have no files, no network and no other processes, by a filter of system calls alone',
  confined: 'edits have no files, no network and no other processes; names and sizes of files can be seen',
  isolated: 'edits have no files, no network and no other processes, in namespaces of their own',
};

export const LEVELS: Readonly<Record<string, string>> = meaning;
