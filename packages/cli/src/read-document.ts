/** Reads a job document from a file or from stdin. What is in it is checked by the SDK. @module */
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { error } from '@patchbay/protocol';

/** @param file `-` is stdin. @throws `PB_DOCUMENT_INVALID` */
export async function readDocument(file: string): Promise<unknown> {
  const name = file === '-' ? 'stdin' : file;
  let source: string;
  try {
    source = file === '-' ? await text(process.stdin) : await readFile(file, 'utf8');
  } catch (cause) {
    throw error(
      'PB_DOCUMENT_INVALID',
      { reason: `${name} cannot be read: ${(cause as Error).message}` },
      { cause, hint: 'Give the path of a JSON file, or - for stdin.' },
    );
  }
  try {
    return JSON.parse(source.replace(/^\uFEFF/, '')) as unknown;
  } catch (cause) {
    throw error('PB_DOCUMENT_INVALID', { reason: `${name} is not JSON: ${(cause as Error).message}` }, { cause });
  }
}
