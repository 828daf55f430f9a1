/** What an artifact store can do: immutable files named by their SHA-256. A directory and an object store both fit. @module */
import type { Readable } from 'node:stream';

export interface ArtifactInfo {
  readonly sha256: string;
  readonly bytes: number;
}

/** Both ends are included. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface ArtifactStore {
  /**
   * Takes a whole file; nothing is there before all of it is. The same content again is no error.
   * @throws `PB_ARTIFACT_CORRUPT` when the content has another digest, `PB_LIMIT_EXCEEDED` when it is too large
   */
  put(sha256: string, content: Readable): Promise<ArtifactInfo>;
  /** @throws `PB_ARTIFACT_NOT_FOUND` */
  head(sha256: string): Promise<ArtifactInfo>;
  /** A range must lie within the file. @throws `PB_ARTIFACT_NOT_FOUND` */
  get(sha256: string, range?: ByteRange): Promise<Readable>;
  /** Digests of the files that were put before this time, unix milliseconds. */
  olderThan(time: number): Promise<string[]>;
  /** Resolves to whether it was there. */
  delete(sha256: string): Promise<boolean>;
}
