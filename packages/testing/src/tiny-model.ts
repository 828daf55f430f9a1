/** Checkpoints of a few kilobytes with random weights that depend on the seed alone. @module */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { loadConfig } from '@patchbay/cli/config';

const run = promisify(execFile);
const SCRIPT = fileURLToPath(new URL('../models/make_model.py', import.meta.url));

export interface TinyModelOptions {
  /** @defaultValue `'llama'` */
  readonly family?: 'llama' | 'mixtral' | 'gpt2';
  /** @defaultValue `0` */
  readonly seed?: number;
  /** @defaultValue `2` */
  readonly layers?: number;
  /** A multiple of 16. @defaultValue `32` */
  readonly width?: number;
  /** Where it goes. @defaultValue a new folder, removed on disposal */
  readonly folder?: string;
}

export interface TinyModel extends AsyncDisposable {
  /** For `model` of a deployment. It has no tokenizer: jobs give `tokenIds` from 0 to 63. */
  readonly folder: string;
}

/** Makes a checkpoint; the same options give the same bytes. */
export async function makeTinyModel(options: TinyModelOptions = {}): Promise<TinyModel> {
  const { family = 'llama', seed = 0, layers = 2, width = 32 } = options;
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), `patchbay-${family}-`)));
  const { python } = await loadConfig();
  const args = [
    SCRIPT,
    folder,
    '--family',
    family,
    ...Object.entries({ seed, layers, width }).flatMap(([name, value]) => [`--${name}`, String(value)]),
  ];
  await run(python, args, { env: { ...process.env, OMP_NUM_THREADS: '1' } });
  return {
    folder,
    [Symbol.asyncDispose]: async () => {
      if (options.folder === undefined) await rm(folder, { recursive: true, force: true });
    },
  };
}
