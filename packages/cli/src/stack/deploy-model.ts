/** Deploys the model that a stack was started with. @module */
import {
  deploymentSpec,
  isPatchbayError,
  type Deployment,
  type DeploymentSpec,
  type StackInfo,
} from '@patchbay/protocol';
import { deploymentName, resolveModel } from '../checkout.js';

/** A deployment of which only some things are said. */
export type SpecOptions = { readonly [K in keyof DeploymentSpec]?: DeploymentSpec[K] | undefined };

export interface DeployOptions {
  readonly onProgress: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Fills in what was not said. */
export function toSpec(given: SpecOptions & { readonly model: string }): DeploymentSpec {
  const { model, name, tp, pp, dp, dtype, replicas, cpusPerRank, placement } = given;
  return deploymentSpec.parse({
    model: resolveModel(model),
    name: name ?? deploymentName(model),
    tp,
    pp,
    dp,
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
  try {
    return await client.models.deploy(spec, options);
  } catch (problem) {
    if (!isPatchbayError(problem, 'PB_MODEL_EXISTS')) throw problem;
    options.onProgress(`replacing the earlier deployment ${spec.name}`);
    await client.models.undeploy(spec.name);
    return client.models.deploy(spec, options);
  }
}
