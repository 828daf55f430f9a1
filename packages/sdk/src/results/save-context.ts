/** What the editing functions kept in `save_ctx`: tensors and plain values by name. @module */
import { error, nearest } from '@patchbay/protocol';
import type { Tensor } from '../tensors/tensor.js';
import type { ResultFiles } from './result-files.js';

export const SAVE_CONTEXT_FILE = 'save_ctx.safetensors';

const isReference = (value: unknown): value is { tensor: string } =>
  typeof value === 'object' &&
  value !== null &&
  'tensor' in value &&
  typeof value.tensor === 'string' &&
  Object.keys(value).length === 1;

export class SaveContext {
  constructor(
    private readonly values: Readonly<Record<string, unknown>>,
    private readonly files: ResultFiles,
    private readonly jobId: string,
  ) {}

  /** Every name that was kept. */
  get names(): string[] {
    return Object.keys(this.values);
  }

  has(name: string): boolean {
    return Object.hasOwn(this.values, name);
  }

  /** A tensor. @throws `PB_TENSOR_NOT_FOUND`, `PB_TENSOR_NOT_LOADED` when the file is too large: use `load()` */
  tensor(name: string): Tensor {
    return this.files.tensor(SAVE_CONTEXT_FILE, this.#key(name));
  }

  /** A tensor, read from the artifact store when it is not there yet. */
  async load(name: string, options: { readonly signal?: AbortSignal } = {}): Promise<Tensor> {
    return this.files.read(SAVE_CONTEXT_FILE, this.#key(name), options);
  }

  /** A plain value as it was kept, a tensor as `Tensor`; undefined when there is none of that name. */
  get(name: string): unknown {
    if (!this.has(name)) return undefined;
    const value = this.values[name];
    return isReference(value) ? this.tensor(name) : value;
  }

  #key(name: string): string {
    const value = this.has(name) ? this.values[name] : undefined;
    if (isReference(value)) return value.tensor;
    const near = nearest(name, this.names);
    const hint = this.has(name)
      ? 'It is a plain value: use saveCtx.get().'
      : `save_ctx has: ${(near.length > 0 ? near : this.names).join(', ') || 'nothing'}.`;
    throw error('PB_TENSOR_NOT_FOUND', { tensor: `save_ctx.${name}` }, { jobId: this.jobId, hint });
  }
}
