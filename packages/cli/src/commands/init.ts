/** `patchbay init`: a starter project in TypeScript, strict, with one job, its picture and one test. @module */
import { cpSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { error } from '@patchbay/protocol';
import { defineCommand, text } from '../define-command.js';
import { installation } from '../installation.js';

const STARTER = fileURLToPath(new URL('../../starter', import.meta.url));

const filesOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => statSync(join(folder, path)).isFile())
    .sort();

export const init = defineCommand({
  name: 'init',
  summary: 'Write a starter project: TypeScript, one job, one picture, one test',
  args: { folder: text('where; default: here', { positional: true }) },
  examples: ['patchbay init my-project'],
  async run({ args, out }) {
    const folder = resolve(args.folder ?? '.');
    const files = filesOf(STARTER);
    const taken = files.filter((path) => existsSync(join(folder, path)));
    if (taken.length > 0)
      throw error(
        'PB_USAGE',
        { reason: `${folder} has ${taken.join(', ')} already; nothing was written`, command: 'init' },
        { hint: 'Name a new folder: patchbay init my-project' },
      );
    mkdirSync(folder, { recursive: true });
    cpSync(STARTER, folder, { recursive: true });
    const there = relative(process.cwd(), folder);
    const steps = [
      ...(there === '' ? [] : [`cd ${there.startsWith('..') ? folder : there}`]),
      'npm install',
      ...(installation.inCheckout ? [] : ['npx patchbay setup    # once: Python packages, about 1.5 GB']),
      'npx patchbay up --model tiny-facts --tp 2 --detach',
      'npm start        # the job and its picture',
      'npm test',
    ];
    out.data(
      { folder, files },
      [`${files.length} files in ${folder}. Next:`, ...steps.map((step) => `  ${step}`)].join('\n'),
    );
    return undefined;
  },
});
