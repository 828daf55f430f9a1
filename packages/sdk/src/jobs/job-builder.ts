/** Turns a job as scripts write it (hooks as objects, listed where they are used) into a job document. @module */
import type { JobDocumentInput } from '@patchbay/protocol';
import { HookFunction, type HookSpec } from './hook-function.js';

/** Scripts may write a job down `as const`. */
type DeepReadonly<T> = T extends readonly (infer U)[]
  ? readonly DeepReadonly<U>[]
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;

type DocumentRun = DeepReadonly<JobDocumentInput['runs'][number]>;
type WithHooks<T> = T extends unknown
  ? Omit<T, 'hooks'> & { hooks?: DocumentRun['hooks'] | readonly HookFunction[] }
  : never;

/** A run: its hooks are a selection as in the job document, or the hook objects themselves. */
export type RunSpec = WithHooks<DocumentRun>;

/**
 * A job. `version` may be left out.
 *
 * Hooks listed in a run are on in that run only. A run that says nothing about hooks has those of `hooks`, the job's own.
 */
export interface JobSpec extends Omit<DeepReadonly<JobDocumentInput>, 'version' | 'hooks' | 'runs'> {
  readonly version?: 1;
  readonly hooks?: readonly (HookFunction | DeepReadonly<HookSpec>)[];
  readonly runs: readonly RunSpec[];
}

/** The document of a spec, and the hook objects in it. */
export interface BuiltJob {
  readonly document: JobDocumentInput;
  readonly hookFunctions: readonly HookFunction[];
}

/** Builds the document; `parseJobDocument` checks it. Values of the wrong type pass through, to be refused there. */
export function buildJob(spec: JobSpec): BuiltJob {
  const { hooks = [], runs, version = 1, ...rest } = spec;
  if (!Array.isArray(hooks) || !Array.isArray(runs))
    return { document: { ...spec, version } as JobDocumentInput, hookFunctions: [] };
  const inline = new Set((runs as readonly RunSpec[]).flatMap(hooksOf).filter((hook) => !hooks.includes(hook)));
  const all = [...(hooks as readonly (HookFunction | HookSpec)[]), ...inline];
  const names = nameAll(all);
  const own = all.slice(0, hooks.length).map((hook) => names.get(hook)!);
  const document = {
    version,
    ...rest,
    ...(all.length > 0 && {
      hooks: all.map((hook) => (hook instanceof HookFunction ? hook.toSpec(names.get(hook)!) : hook)),
    }),
    runs: (runs as readonly RunSpec[]).map((run) => withSelection(run, names, inline.size > 0 ? own : undefined)),
  };
  return { document: document as JobDocumentInput, hookFunctions: all.filter((hook) => hook instanceof HookFunction) };
}

/**
 * The job document of a spec: plain data that can be stored, compared and submitted later.
 * @example await writeFile('job.json', JSON.stringify(job({ model: 'tiny-facts', runs: [...] })));
 */
export function job(spec: JobSpec): JobDocumentInput {
  return buildJob(spec).document;
}

function hooksOf(run: RunSpec): readonly HookFunction[] {
  return Array.isArray(run?.hooks) ? (run.hooks as readonly HookFunction[]) : [];
}

/** Given names stay; the others get `hook-<position>`, as `parseJobDocument` does it. */
function nameAll(hooks: readonly (HookFunction | HookSpec)[]): Map<HookFunction | HookSpec, string> {
  const given = (hook: HookFunction | HookSpec): string | undefined =>
    hook instanceof HookFunction ? hook.options.name : hook?.name;
  return new Map(hooks.map((hook, index) => [hook, given(hook) ?? `hook-${index}`]));
}

function withSelection(
  run: RunSpec,
  names: ReadonlyMap<HookFunction | HookSpec, string>,
  own: readonly string[] | undefined,
): DocumentRun {
  if (Array.isArray(run?.hooks)) {
    const selected = hooksOf(run).map((hook) => names.get(hook)!);
    return { ...run, hooks: { names: selected } };
  }
  const scoped = own !== undefined && run?.hooks === undefined;
  return (scoped ? { ...run, hooks: { names: [...own] } } : run) as DocumentRun;
}
