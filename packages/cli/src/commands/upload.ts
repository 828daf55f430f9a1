/** `patchbay upload`: a file into the artifact store, for documents to refer to. @module */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { error } from '@patchbay/protocol';
import { openClient } from '../client.js';
import { defineCommand, positional } from '../define-command.js';
import { transferBar } from './transfer-bar.js';

export const upload = defineCommand({
  name: 'upload',
  summary: 'Store a file for jobs to use, and print what a document refers to it by',
  args: { file: positional('safetensors with inputs, or the source of an edit') },
  examples: ['patchbay upload steering.safetensors', 'patchbay upload steering.safetensors --json'],
  async run({ args: { file }, config, out, signal }) {
    const found = await stat(file).catch(() => undefined);
    if (found?.isFile() !== true)
      throw error('PB_USAGE', { reason: `${file} is no file that can be read`, command: 'upload' });
    await using client = await openClient(config);
    const onProgress = transferBar(out, basename(file));
    const { artifact } = await client.artifacts.upload(file, { signal, onProgress });
    out.data({ artifact, bytes: found.size }, artifact);
    return undefined;
  },
});
