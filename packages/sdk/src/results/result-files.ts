/** The files of a result: inline, from the artifact store, whole or one tensor by a range. Not here: what they mean. @module */
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  error,
  headerEnd,
  parseSafetensorsHeader,
  type JobResult as ResultJson,
  type SafetensorsHeader,
} from '@patchbay/protocol';
import type { Artifacts } from '../artifacts.js';
import { readSafetensors } from '../tensors/safetensors.js';
import { Tensor } from '../tensors/tensor.js';
import { throwIfAborted } from '../transport/deadline.js';

type Files = ResultJson['files'];

/** Most headers are shorter, so that one request reads the header. */
const HEADER_GUESS = 64 * 1024;
const SAFETENSORS = /\.safetensors$/;

interface Signal {
  readonly signal?: AbortSignal | undefined;
}

export interface DownloadOptions extends Signal {
  /** Called with the bytes that have arrived, and all there are. */
  readonly onProgress?: ((arrived: number, total: number) => void) | undefined;
}

export class ResultFiles {
  readonly #loaded = new Map<string, ReadonlyMap<string, Tensor>>();
  readonly #headers = new Map<string, Promise<SafetensorsHeader>>();

  constructor(
    private readonly files: Files,
    private readonly artifacts: Artifacts,
    private readonly jobId: string,
  ) {}

  /** Reads the tensor files of at most `eagerBytes` each, so that their tensors are there without waiting. */
  async load(eagerBytes: number, { signal }: Signal): Promise<void> {
    const small = Object.entries(this.files).filter(
      ([name, file]) => SAFETENSORS.test(name) && (file.inline !== undefined || file.bytes <= eagerBytes),
    );
    await Promise.all(
      small.map(async ([name]) => {
        this.#loaded.set(name, readSafetensors(await this.bytes(name, { signal })));
      }),
    );
  }

  /** Tensors that are there. */
  loaded(): { file: string; name: string; tensor: Tensor }[] {
    return [...this.#loaded].flatMap(([file, tensors]) =>
      [...tensors].map(([name, tensor]) => ({ file, name, tensor })),
    );
  }

  /** A tensor that is there already. @throws `PB_TENSOR_NOT_LOADED`, `PB_TENSOR_NOT_FOUND` */
  tensor(file: string, name: string): Tensor {
    const tensors = this.#loaded.get(file);
    const known = this.files[file];
    if (tensors === undefined && known !== undefined) {
      throw error('PB_TENSOR_NOT_LOADED', { file, bytes: known.bytes }, { jobId: this.jobId });
    }
    const found = tensors?.get(name);
    if (found === undefined) throw this.#missing(file, name);
    return found;
  }

  /** A tensor wherever it is; of a file that is not loaded only this tensor is read. */
  async read(file: string, name: string, { signal }: Signal): Promise<Tensor> {
    if (this.#loaded.has(file) || this.files[file] === undefined) return this.tensor(file, name);
    const { sha256, bytes } = this.files[file];
    const entry = (await this.#header(file, sha256, bytes)).tensors.get(name);
    if (entry === undefined) throw this.#missing(file, name);
    const { dtype, shape, begin, end } = entry;
    const data = begin === end ? new Uint8Array() : await this.artifacts.range(sha256, begin, end, { signal });
    return Tensor.fromRaw({ dtype, shape, data });
  }

  /** A whole file. @throws `PB_ARTIFACT_CORRUPT` when its hash is another one */
  async bytes(file: string, { signal }: Signal): Promise<Uint8Array> {
    const known = this.files[file];
    if (known === undefined) throw error('PB_ARTIFACT_NOT_FOUND', { artifact: file }, { jobId: this.jobId });
    if (known.inline !== undefined) return Buffer.from(known.inline, 'base64');
    return this.artifacts.download(known.sha256, { signal });
  }

  /** Writes every file into the folder; each appears only when it is complete. */
  async download(folder: string, { signal, onProgress }: DownloadOptions): Promise<void> {
    const total = Object.values(this.files).reduce((sum, { bytes }) => sum + bytes, 0);
    let arrived = 0;
    const onBytes = (count: number): void => onProgress?.((arrived += count), total);
    for (const [name, { sha256, inline, bytes }] of Object.entries(this.files)) {
      throwIfAborted(signal, this.jobId);
      const to = join(folder, name);
      if (inline === undefined) {
        await this.artifacts.download(sha256, { to, signal, onBytes });
      } else {
        await writeWhole(to, Buffer.from(inline, 'base64'));
        onBytes(bytes);
      }
    }
  }

  #header(file: string, sha256: string, bytes: number): Promise<SafetensorsHeader> {
    let header = this.#headers.get(file);
    if (header === undefined) {
      header = this.#readHeader(sha256, bytes);
      this.#headers.set(file, header);
      header.catch(() => this.#headers.delete(file));
    }
    return header;
  }

  async #readHeader(sha256: string, bytes: number): Promise<SafetensorsHeader> {
    let start = await this.artifacts.range(sha256, 0, Math.min(bytes, HEADER_GUESS), {});
    const end = headerEnd(start, bytes);
    if (end > start.byteLength) start = await this.artifacts.range(sha256, 0, end, {});
    return parseSafetensorsHeader(start, bytes);
  }

  #missing(file: string, name: string): Error {
    return error('PB_TENSOR_NOT_FOUND', { tensor: `${file}: ${name}` }, { jobId: this.jobId });
  }
}

/** Writes a file so that it is never seen half written. */
export async function writeWhole(path: string, content: Uint8Array | string): Promise<void> {
  const partial = `${path}.partial-${process.pid}`;
  try {
    await writeFile(partial, content);
    await rename(partial, path);
  } catch (cause) {
    await rm(partial, { force: true });
    throw cause;
  }
}
