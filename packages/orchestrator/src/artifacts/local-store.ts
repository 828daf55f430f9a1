/** Artifacts in a directory: `<home>/artifacts/ab/abcdef...`, written aside, synced, then renamed. @module */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { error } from '@patchbay/protocol';
import { checked } from './checked.js';
import type { ArtifactInfo, ArtifactStore, ByteRange } from './store.js';

const READ_BYTES = 1 << 20;

/** A file that is being written changes more often than this. */
const ABANDONED_MS = 3_600_000;

/** Unix milliseconds; later than everything for a file that is gone. */
async function changedAt(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (cause) {
    if (isMissing(cause)) return Number.POSITIVE_INFINITY;
    throw cause;
  }
}

const isMissing = (cause: unknown): boolean => (cause as NodeJS.ErrnoException).code === 'ENOENT';

export class LocalStore implements ArtifactStore {
  private readonly incoming: string;

  constructor(
    private readonly directory: string,
    private readonly maxBytes: number,
  ) {
    this.incoming = join(directory, 'incoming');
  }

  /** Makes the directory and removes what earlier processes left half written; another one may be writing now. */
  async prepare(): Promise<void> {
    await mkdir(this.incoming, { recursive: true, mode: 0o700 });
    const before = Date.now() - ABANDONED_MS;
    for (const name of await readdir(this.incoming)) {
      const path = join(this.incoming, name);
      if ((await changedAt(path)) < before) await rm(path, { force: true });
    }
  }

  async olderThan(time: number): Promise<string[]> {
    const old: string[] = [];
    for (const folder of (await readdir(this.directory)).filter((name) => /^[0-9a-f]{2}$/.test(name))) {
      for (const name of await readdir(join(this.directory, folder)))
        if ((await changedAt(join(this.directory, folder, name))) < time) old.push(name);
    }
    return old;
  }

  async put(sha256: string, content: Readable): Promise<ArtifactInfo> {
    const aside = join(this.incoming, randomUUID());
    try {
      const bytes = await this.writeChecked(aside, sha256, content);
      const path = this.path(sha256);
      await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
      await rename(aside, path);
      return { sha256, bytes };
    } catch (cause) {
      await rm(aside, { force: true });
      throw cause;
    }
  }

  async head(sha256: string): Promise<ArtifactInfo> {
    try {
      return { sha256, bytes: (await stat(this.path(sha256))).size };
    } catch (cause) {
      throw this.failed(sha256, cause);
    }
  }

  async get(sha256: string, range?: ByteRange): Promise<Readable> {
    try {
      const file = await open(this.path(sha256));
      return file.createReadStream({ highWaterMark: READ_BYTES, ...range });
    } catch (cause) {
      throw this.failed(sha256, cause);
    }
  }

  async delete(sha256: string): Promise<boolean> {
    try {
      await rm(this.path(sha256));
      return true;
    } catch (cause) {
      if (isMissing(cause)) return false;
      throw cause;
    }
  }

  private async writeChecked(path: string, sha256: string, content: Readable): Promise<number> {
    const file = await open(path, 'wx', 0o600);
    let bytes = 0;
    try {
      for await (const chunk of checked(content, sha256, this.maxBytes)) {
        bytes += chunk.length;
        await file.writeFile(chunk);
      }
      // a name must never stand for content that a power cut took
      await file.datasync();
      return bytes;
    } finally {
      await file.close();
    }
  }

  private path(sha256: string): string {
    return join(this.directory, sha256.slice(0, 2), sha256);
  }

  private failed(sha256: string, cause: unknown): unknown {
    return isMissing(cause) ? error('PB_ARTIFACT_NOT_FOUND', { artifact: `sha256:${sha256}` }) : cause;
  }
}
