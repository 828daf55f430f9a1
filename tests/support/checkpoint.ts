/** Random-weight checkpoints of other architectures on disk, made by the worker's own test support. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './stack.js';

const SCRIPT = `
import sys
from pathlib import Path
from tests.support.checkpoints import make_checkpoint
make_checkpoint(Path(sys.argv[1]), sys.argv[2])
`;

/** @returns the folder of the checkpoint; the caller's temp folder keeps it. */
export function makeCheckpoint(family: string): string {
  const folder = mkdtempSync(join(tmpdir(), `pb-${family}-`));
  const child = spawnSync(join(ROOT, '.venv/bin/python'), ['-c', SCRIPT, folder, family], {
    cwd: join(ROOT, 'packages/worker-py'),
    encoding: 'utf8',
    timeout: 120_000,
  });
  if (child.status !== 0) throw new Error(`no ${family} checkpoint: ${child.stderr}`);
  return folder;
}
