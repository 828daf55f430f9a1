/** Where a command is to write: a place that cannot be written is told before anything runs. @module */
import { constants } from 'node:fs';
import { access, mkdir } from 'node:fs/promises';
import { error, type PatchbayError } from '@patchbay/protocol';

export const notWritable = (path: string, command: string, cause: unknown): PatchbayError =>
  error(
    'PB_USAGE',
    { reason: `${path} cannot be written: ${(cause as Error).message}`, command },
    { cause, hint: 'Name another path.' },
  );

/** Makes the folder. @throws `PB_USAGE` */
export async function prepareFolder(folder: string, command: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (cause) {
    throw notWritable(folder, command, cause);
  }
}
