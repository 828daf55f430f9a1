/** FlexModel's HookFunction: where to hook, and the editing function that runs there once on the full tensor. @module */
import { error, type HookType, type JobDocumentInput } from '@patchbay/protocol';
import { dedent } from './dedent.js';

/** A hook as the job document has it. */
export type HookSpec = NonNullable<JobDocumentInput['hooks']>[number];
type EditSpec = NonNullable<HookSpec['edit']>;

export interface HookFunctionOptions {
  /** Dotted path of a module; `*` stands for one segment, `**` for any number: one hook per match. */
  readonly moduleName: string;
  /** Where in the module. @defaultValue `'forward'` */
  readonly hookType?: HookType;
  /** Full shape that the edit expects; null per dim or as a whole: take it from the shard plan. @defaultValue `null` */
  readonly expectedShape?: readonly (number | null)[] | null;
  /** Python source with `def edit(current_module, inputs, save_ctx, modules)`; not together with `edit`. */
  readonly editingFunction?: string;
  /** Name of the function in `editingFunction`. @defaultValue `'edit'` */
  readonly entry?: string;
  /** The edit as the job document has it, such as a source that was uploaded. @defaultValue `{ kind: 'none' }` */
  readonly edit?: EditSpec;
  /** Which tensor of the module's output, depth first. @defaultValue `0` */
  readonly unpackIdx?: number;
  /** Along which dim data parallel copies are put together. @defaultValue the dim that is known to hold the batch */
  readonly dpDim?: number;
  /** What the result keeps: the value before or after the edit. @defaultValue `'pre'` */
  readonly save?: 'pre' | 'post' | 'none';
  /** Dtype of what the result keeps; it is cast before it moves. @defaultValue the model's own */
  readonly dtype?: NonNullable<HookSpec['dtype']>;
  /** The rows, positions and steps that the edit sees. @defaultValue all */
  readonly where?: HookSpec['where'];
  /** Groups to enable the hook by, besides `all`. @defaultValue `[]` */
  readonly groups?: readonly string[];
  /** Name in events and results. @defaultValue `hook-<position in the job>` */
  readonly name?: string;
}

/**
 * One hook of one job. It can be listed in any number of that job's runs, but not in a second job.
 * @example
 * new HookFunction({ moduleName: 'model.layers.2.mlp.gate_proj', expectedShape: [null, null, 512], editingFunction: source })
 */
export class HookFunction {
  #jobId: string | undefined;

  /** @throws `PB_DOCUMENT_INVALID` when both `edit` and `editingFunction` are given */
  constructor(readonly options: HookFunctionOptions) {
    if (options.edit === undefined || options.editingFunction === undefined) return;
    throw error(
      'PB_DOCUMENT_INVALID',
      { reason: 'give edit or editingFunction, not both' },
      { path: 'editingFunction' },
    );
  }

  /** @internal */
  toSpec(name: string): HookSpec {
    const { editingFunction, entry, expectedShape, groups, edit, ...rest } = this.options;
    const python =
      editingFunction === undefined
        ? edit
        : { kind: 'python' as const, source: dedent(editingFunction), ...(entry !== undefined && { entry }) };
    return {
      ...rest,
      name,
      ...(expectedShape !== undefined && { expectedShape: expectedShape === null ? null : [...expectedShape] }),
      ...(groups !== undefined && { groups: [...groups] }),
      ...(python !== undefined && { edit: python }),
    };
  }

  /** Belongs to the job from now on; submitting that job again is fine. @internal */
  register(jobId: string): void {
    if (this.#jobId !== undefined && this.#jobId !== jobId) {
      throw error('PB_HOOK_REUSED', { module: this.options.moduleName }, { jobId: this.#jobId });
    }
    this.#jobId = jobId;
  }

  /** The job was refused, so the hook is free again. @internal */
  release(jobId: string): void {
    if (this.#jobId === jobId) this.#jobId = undefined;
  }
}
