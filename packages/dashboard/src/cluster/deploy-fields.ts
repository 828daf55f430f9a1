/** What the form of a deployment says, by the document's own schema, and at which field a refusal belongs. @module */
import { deploymentName, deploymentSpec, type DeploymentSpec, type ErrorCode } from '@patchbay/protocol';
import { ApiError } from '../api.js';
import { textOf } from '../look/form.js';

export type FieldName = keyof DeploymentSpec;
/** Where refusals stand that name no path. */
const FIELD_OF: Partial<Record<ErrorCode, FieldName>> = {
  PB_MODEL_LOAD_FAILED: 'model',
  PB_MODEL_EXISTS: 'name',
  PB_NOT_DIVISIBLE: 'tp',
  PB_MESH_UNSUPPORTED: 'tp',
  PB_MEMORY: 'model',
  PB_PLACEMENT_FAILED: 'placement',
};

export const DTYPES = deploymentSpec.shape.dtype.def.innerType.options;
export const PLACEMENTS = deploymentSpec.shape.placement.def.innerType.options;

const isField = (name: string | undefined): name is FieldName => name !== undefined && name in deploymentSpec.shape;

/** Undefined for what belongs to no field. */
export function fieldOf({ detail: { code, path } }: ApiError): FieldName | undefined {
  const [first] = (path ?? '').split(/[.[]/);
  return isField(first) ? first : FIELD_OF[code];
}

/** The spec, or the first thing that is wrong with every field. */
export function readSpec(form: HTMLFormElement): { spec: DeploymentSpec } | { problems: ApiError[] } {
  const number = (name: FieldName): number | undefined =>
    textOf(form, name) === '' ? undefined : Number(textOf(form, name));
  const ticked = (name: FieldName): boolean => textOf(form, name) !== '';
  const model = textOf(form, 'model');
  const parsed = deploymentSpec.safeParse({
    model,
    name: textOf(form, 'name') || (model === '' ? undefined : deploymentName(model)),
    tp: number('tp'),
    pp: number('pp'),
    dp: number('dp'),
    fsdp: ticked('fsdp'),
    expertParallel: ticked('expertParallel'),
    dtype: textOf(form, 'dtype'),
    replicas: number('replicas'),
    cpusPerRank: number('cpusPerRank'),
    placement: textOf(form, 'placement'),
  });
  if (parsed.success) return { spec: parsed.data };
  const found = new Map<string, ApiError>();
  for (const { path, message } of parsed.error.issues) {
    const field = String(path[0]);
    // without a model there is no name either, which need not be said twice
    if (found.has(field) || (field === 'name' && model === '')) continue;
    found.set(field, new ApiError({ code: 'PB_REQUEST_INVALID', message, path: field }));
  }
  return { problems: [...found.values()] };
}
