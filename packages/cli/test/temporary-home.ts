/** A home folder of its own for each test. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeFolders, stackPaths, type StackPaths } from '../src/stack/paths.js';

/**
 * Call in a `describe`; the function gives the home of the running test.
 * @param end - ends what runs in the home, before it is deleted
 */
export function temporaryHome(end: (home: string) => void = () => undefined): () => StackPaths {
  let paths: StackPaths;
  beforeEach(() => {
    paths = stackPaths(mkdtempSync(join(tmpdir(), 'pb-cli-')));
    makeFolders(paths);
  });
  afterEach(() => {
    end(paths.home);
    rmSync(paths.home, { recursive: true, force: true });
  });
  return () => paths;
}

export const never = (): AbortSignal => new AbortController().signal;
