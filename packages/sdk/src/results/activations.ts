/** Captured activations with the labels that say which hook, run, module and tokens they are of. @module */
import { error, type JobResult as ResultJson } from '@patchbay/protocol';
import type { Tensor } from '../tensors/tensor.js';
import type { ResultFiles } from './result-files.js';

export const ACTIVATIONS_FILE = 'activations.safetensors';

type Labels = ResultJson['activations'][number];

/** Which activations; every given field must fit. */
export interface ActivationFilter {
  readonly hook?: string;
  readonly run?: string;
  readonly module?: string;
  readonly call?: number;
}

/** One captured tensor. */
export class Activation {
  constructor(
    private readonly labels: Labels,
    private readonly files: ResultFiles,
  ) {}

  get run(): string {
    return this.labels.run;
  }

  get hook(): string {
    return this.labels.hook;
  }

  get module(): string {
    return this.labels.module;
  }

  /** Which call of the module in the run. */
  get call(): number | null {
    return this.labels.call;
  }

  get shape(): readonly number[] | undefined {
    return this.labels.shape;
  }

  /** Per row of the flattened leading dims its token; null for a padded slot. */
  get rows(): Labels['rows'] {
    return this.labels.rows;
  }

  /** Why there is no tensor. */
  get missing(): string | undefined {
    return this.labels.missing;
  }

  /** @throws `PB_TENSOR_NOT_FOUND` when it is `missing`, `PB_TENSOR_NOT_LOADED` when its file is too large: use `load()` */
  tensor(): Tensor {
    return this.files.tensor(this.#file, this.#key());
  }

  /** The tensor, read from the artifact store when it is not there yet. */
  async load(options: { readonly signal?: AbortSignal } = {}): Promise<Tensor> {
    return this.files.read(this.#file, this.#key(), options);
  }

  toJSON(): Labels {
    return this.labels;
  }

  get #file(): string {
    return this.labels.file ?? ACTIVATIONS_FILE;
  }

  #key(): string {
    const { tensor, missing = 'it was not captured', run, hook, module } = this.labels;
    if (tensor !== undefined) return tensor;
    throw error(
      'PB_TENSOR_NOT_FOUND',
      { tensor: `${run}/${hook}/${module}` },
      { hint: `The worker says: ${missing}.` },
    );
  }
}

/** True when the activation fits the filter. */
export function matches(labels: Labels, filter: ActivationFilter): boolean {
  return Object.entries(filter).every(
    ([key, wanted]) => wanted === undefined || labels[key as keyof ActivationFilter] === wanted,
  );
}
