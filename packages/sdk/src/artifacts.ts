/** Tensors and other bytes that jobs use or leave, by the hash of their content. Not here: the store (orchestrator). @module */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { error } from '@patchbay/protocol';
import { writeSafetensors } from './tensors/safetensors.js';
import type { Tensor } from './tensors/tensor.js';
import type { HttpClient } from './transport/http.js';

/** As a job document refers to it. */
export interface ArtifactRef {
  readonly artifact: string;
}

/** Tensors by name, bytes, or the path of a file. */
export type Uploadable = Readonly<Record<string, Tensor>> | Uint8Array | string;

interface Options {
  readonly signal?: AbortSignal | undefined;
}

export interface UploadOptions extends Options {
  /** Called with the bytes that are on their way, and all there are; once at the end for what is there already. */
  readonly onProgress?: ((sent: number, total: number) => void) | undefined;
}

/** Of a download into a file. */
export interface FileOptions extends Options {
  /** Appears when it is complete. */
  readonly to: string;
  /** Called with the size of every part that arrived. */
  readonly onBytes?: ((count: number) => void) | undefined;
}

const PIECE_BYTES = 256 * 1024;

const hexOf = (artifact: string | ArtifactRef): string =>
  (typeof artifact === 'string' ? artifact : artifact.artifact).replace(/^sha256:/, '');
const pathOf = (sha256: string): string => `/api/artifacts/${sha256}`;

function corrupt(sha256: string, reason: string): Error {
  return error('PB_ARTIFACT_CORRUPT', { artifact: `sha256:${sha256}`, reason });
}

/** Lets everything through, and looks at it. */
const tap = (look: (chunk: Buffer) => void): Transform =>
  new Transform({
    transform(chunk: Buffer, _encoding, done) {
      look(chunk);
      done(null, chunk);
    },
  });

/** Without copying. */
function* pieces(bytes: Uint8Array): Generator<Buffer> {
  for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES)
    yield Buffer.from(bytes.buffer, bytes.byteOffset + at, Math.min(PIECE_BYTES, bytes.byteLength - at));
}

export class Artifacts {
  constructor(private readonly http: HttpClient) {}

  /**
   * Stores something, unless it is there already. Files are streamed, never read as a whole.
   * @returns what a document refers to it by
   * @throws `PB_ORCHESTRATOR_UNAVAILABLE`, `PB_STACK_NOT_RUNNING`, `PB_ABORTED`
   * @example const { artifact } = await pb.artifacts.upload({ steering: tensor([[0, 1, 2]]) });
   */
  async upload(content: Uploadable, options: UploadOptions = {}): Promise<ArtifactRef> {
    if (typeof content === 'string') {
      const { size } = await stat(content);
      return this.#upload(() => createReadStream(content), size, options);
    }
    const bytes = content instanceof Uint8Array ? content : writeSafetensors(content);
    return this.#upload(() => Readable.from(pieces(bytes)), bytes.byteLength, options);
  }

  /**
   * Fetches an artifact and checks its hash.
   * @param options - `to`: a file that appears when it is complete; without it the bytes are returned
   * @throws `PB_ARTIFACT_NOT_FOUND`, `PB_ARTIFACT_CORRUPT`, `PB_ORCHESTRATOR_UNAVAILABLE`
   */
  async download(artifact: string | ArtifactRef, options: FileOptions): Promise<void>;
  async download(artifact: string | ArtifactRef, options?: Options): Promise<Uint8Array>;
  async download(
    artifact: string | ArtifactRef,
    { to, signal, onBytes }: Options & Partial<FileOptions> = {},
  ): Promise<Uint8Array | void> {
    const sha256 = hexOf(artifact);
    if (to !== undefined) return this.#downloadFile(sha256, to, signal, onBytes);
    const bytes = await this.http.bytes(pathOf(sha256), { signal });
    const found = createHash('sha256').update(bytes).digest('hex');
    if (found !== sha256) throw corrupt(sha256, `what arrived has the hash ${found}`);
    return bytes;
  }

  /** The bytes from `begin` to `end` (exclusive). A part has no hash to check. @internal */
  async range(sha256: string, begin: number, end: number, { signal }: Options): Promise<Uint8Array> {
    const bytes = await this.http.bytes(pathOf(sha256), { headers: { range: `bytes=${begin}-${end - 1}` }, signal });
    if (bytes.byteLength !== end - begin)
      throw corrupt(sha256, `${end - begin} bytes were asked for, ${bytes.byteLength} arrived`);
    return bytes;
  }

  /** Read twice: its hash is its name, which the store is asked for first. */
  async #upload(open: () => Readable, total: number, { signal, onProgress }: UploadOptions): Promise<ArtifactRef> {
    const hash = createHash('sha256');
    await pipeline(open(), hash, { ...(signal !== undefined && { signal }) });
    const sha256 = hash.digest('hex');
    if (await this.#exists(sha256, signal)) onProgress?.(total, total);
    else await this.#put(sha256, open(), total, { signal, onProgress });
    return { artifact: `sha256:${sha256}` };
  }

  async #exists(sha256: string, signal: AbortSignal | undefined): Promise<boolean> {
    const response = await this.http.send(pathOf(sha256), { method: 'HEAD', signal });
    if (response.ok) return true;
    if (response.status === 401) throw error('PB_UNAUTHORIZED', {});
    return false; // whatever it is, the PUT will say it with a body
  }

  async #put(sha256: string, content: Readable, total: number, { signal, onProgress }: UploadOptions): Promise<void> {
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(total) };
    let sent = 0;
    const counted = tap((chunk) => onProgress?.((sent += chunk.byteLength), total));
    pipeline(content, counted).catch(() => undefined); // the request ends with what ended its body
    const body = Readable.toWeb(counted) as ReadableStream<Uint8Array>;
    await this.http.request(pathOf(sha256), { method: 'PUT', headers, body, signal });
  }

  async #downloadFile(
    sha256: string,
    to: string,
    signal: AbortSignal | undefined,
    onBytes?: (count: number) => void,
  ): Promise<void> {
    const response = await this.http.request(pathOf(sha256), { signal });
    const partial = `${to}.partial-${randomUUID()}`;
    const hash = createHash('sha256');
    const counted = tap((chunk) => {
      hash.update(chunk);
      onBytes?.(chunk.byteLength);
    });
    try {
      const body = Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]);
      await this.http.read(signal, () => pipeline(body, counted, createWriteStream(partial)));
      const found = hash.digest('hex');
      if (found !== sha256) throw corrupt(sha256, `what arrived has the hash ${found}`);
      await rename(partial, to);
    } catch (cause) {
      await rm(partial, { force: true });
      throw cause;
    }
  }
}
