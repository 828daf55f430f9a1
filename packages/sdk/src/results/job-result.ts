/** What a completed job gives back. Not here: how files are fetched (result-files.ts). @module */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { error, jobResult, type JobResult as ResultJson } from '@patchbay/protocol';
import type { Artifacts } from '../artifacts.js';
import type { Tensor } from '../tensors/tensor.js';
import { Activation, matches, type ActivationFilter } from './activations.js';
import { ResultFiles, writeWhole, type DownloadOptions } from './result-files.js';
import { SaveContext } from './save-context.js';

export const OUTPUTS_FILE = 'outputs.safetensors';

/** A tensor of a loaded file, by name. */
export interface TensorName {
  readonly file: string;
  readonly name: string;
  readonly tensor: Tensor;
}

/**
 * The result of a job.
 * @example
 * result.runs['clean'].topK?.[0]?.[0]?.token;
 * result.saveCtx.tensor('singular_values').toFloat32();
 * for (const activation of result.activations({ hook: 'resid' })) console.log(activation.module, activation.tensor().shape);
 */
export class JobResult {
  /** Kept by the editing functions. */
  readonly saveCtx: SaveContext;
  readonly #files: ResultFiles;

  private constructor(
    /** `result.json` as it is stored. */
    readonly json: ResultJson,
    artifacts: Artifacts,
  ) {
    this.#files = new ResultFiles(json.files, artifacts, json.jobId);
    this.saveCtx = new SaveContext(json.saveCtx, this.#files, json.jobId);
  }

  /** @internal */
  static async open(
    text: string,
    artifacts: Artifacts,
    options: { eagerBytes: number; signal?: AbortSignal | undefined },
  ): Promise<JobResult> {
    const result = new JobResult(jobResult.parse(JSON.parse(text)), artifacts);
    await result.#files.load(options.eagerBytes, options);
    return result;
  }

  get jobId(): string {
    return this.json.jobId;
  }

  /** Outputs by run: top tokens, token ids, generated text, where the logits are. */
  get runs(): ResultJson['runs'] {
    return this.json.runs;
  }

  /** What is odd but no failure. */
  get warnings(): readonly string[] {
    return this.json.warnings;
  }

  /** Sizes and hashes of the files. */
  get files(): ResultJson['files'] {
    return this.json.files;
  }

  /** The captures that fit the filter, in the order in which they were made. */
  activations(filter: ActivationFilter = {}): Activation[] {
    return this.json.activations
      .filter((labels) => matches(labels, filter))
      .map((labels) => new Activation(labels, this.#files));
  }

  /**
   * Logits of a run, `[row, vocabulary]` or `[row, position, vocabulary]` as the run asked.
   * @throws `PB_TENSOR_NOT_FOUND` when the run did not ask for them, `PB_TENSOR_NOT_LOADED` when the file is too large: use `tensor()`
   */
  logits(run: string): Tensor {
    const found = this.json.runs[run]?.logits;
    if (found !== undefined) return this.#files.tensor(found.file ?? OUTPUTS_FILE, found.tensor);
    const hint =
      this.json.runs[run] === undefined
        ? `The job has the runs ${Object.keys(this.json.runs).join(', ')}.`
        : 'Ask for them: return: { logits: "last" }.';
    throw error('PB_TENSOR_NOT_FOUND', { tensor: `logits of ${run}` }, { jobId: this.jobId, hint });
  }

  /** The tensors that came with the result. Those of larger files: `tensor()`. */
  tensors(): TensorName[] {
    return this.#files.loaded();
  }

  /** Any tensor of any file; of a file that is not loaded only this tensor is transferred. */
  async tensor(file: string, name: string, options: { readonly signal?: AbortSignal } = {}): Promise<Tensor> {
    return this.#files.read(file, name, options);
  }

  /** A whole file, such as `logs.txt`. */
  async file(name: string, options: { readonly signal?: AbortSignal } = {}): Promise<Uint8Array> {
    return this.#files.bytes(name, options);
  }

  /** Writes `result.json` and the files into a folder, which is made. `result.json` comes last: when it is there, all are. */
  async download(folder: string, options: DownloadOptions = {}): Promise<void> {
    await mkdir(folder, { recursive: true });
    await this.#files.download(folder, options);
    const files = Object.fromEntries(
      Object.entries(this.json.files).map(([name, { sha256, bytes }]) => [name, { sha256, bytes }]),
    );
    await writeWhole(join(folder, 'result.json'), `${JSON.stringify({ ...this.json, files }, null, 2)}\n`);
  }
}
