/** Deploys the model that a stack was started with. @module */
import {
  deploymentName,
  deploymentSpec,
  error,
  isPatchbayError,
  type Deployment,
  type DeploymentSpec,
  type StackInfo,
} from '@patchbay/protocol';
import type { DeployProgress } from '@patchbay/sdk';
import { resolveModel } from '../installation.js';

/** A deployment of which only some things are said. */
export type SpecOptions = { readonly [K in Exclude<keyof DeploymentSpec, 'fsdp'>]?: DeploymentSpec[K] | undefined } & {
  /** Ranks that share batch and weights: dp with its flag, in one word. */
  readonly fsdp?: number | undefined;
};

export interface DeployOptions {
  readonly onProgress: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Fills in what was not said. */
export function toSpec(given: SpecOptions & { readonly model: string }): DeploymentSpec {
  const { model, name, tp, pp, dp, fsdp, expertParallel, dtype, replicas, cpusPerRank, placement } = given;
  if (fsdp !== undefined && dp !== undefined && dp !== fsdp) {
    throw error('PB_USAGE', { reason: `--dp ${dp} and --fsdp ${fsdp} name the same axis`, command: 'deploy' });
  }
  return deploymentSpec.parse({
    model: resolveModel(model),
    name: name ?? deploymentName(model),
    tp,
    pp,
    dp: fsdp ?? dp,
    fsdp: fsdp !== undefined && fsdp > 1,
    expertParallel,
    dtype,
    replicas,
    cpusPerRank,
    placement,
  });
}

/** A deployment of the same name that an earlier stack of this home left is replaced: what was asked for now counts. */
export async function deployModel(
  stack: StackInfo,
  model: SpecOptions & { readonly model: string },
  options: DeployOptions,
): Promise<Deployment> {
  const { Patchbay } = await import('@patchbay/sdk');
  const spec = toSpec(model);
  await using client = new Patchbay({ redisUrl: stack.redisUrl, httpUrl: stack.http, token: stack.token });
  const onProgress = (message: string, { fraction = 0 }: DeployProgress): void =>
    options.onProgress(fraction === 0 ? message : `${message}, ${Math.round(fraction * 100)} %`);
  const wanted = { ...options, onProgress };
  try {
    return await client.models.deploy(spec, wanted);
  } catch (problem) {
    if (!isPatchbayError(problem, 'PB_MODEL_EXISTS')) throw problem;
    options.onProgress(`replacing the earlier deployment ${spec.name}`);
    await client.models.undeploy(spec.name);
    return client.models.deploy(spec, wanted);
  }
}
