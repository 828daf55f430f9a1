/** What a deployment is and what its model looks like from outside. @module */
import { z } from 'zod';
import { errorJson } from './errors.js';
import { mesh, SANDBOX_LEVELS } from './result.js';

/** A place where a hook can go: layout of one tensor leaf of a module. */
const site = z.object({
  module: z.string(),
  hookType: z.string(),
  leaf: z.int(),
  /** Full shape; "B" and "S" stand for batch and sequence. */
  shape: z.array(z.union([z.int(), z.string()])),
  layout: z.enum(['replicated', 'sharded', 'partial', 'unknown']),
  /** Which dim of the tensor the tp axis shards. */
  shardDim: z.int().nullish(),
  dtype: z.string(),
  reason: z.string().nullish(),
});

/** Written by the ranks when a model is loaded. */
export const modelDescription = z.object({
  name: z.string(),
  modelPath: z.string(),
  family: z.string(),
  modelSha256: z.string(),
  dtype: z.string(),
  mesh,
  vocabSize: z.int(),
  maxPositions: z.int(),
  hiddenSize: z.int(),
  layers: z.int(),
  modules: z.array(z.object({ name: z.string(), className: z.string() })),
  parameters: z.array(z.object({ name: z.string(), shape: z.array(z.int()), dtype: z.string() })),
  sites: z.array(site),
  versions: z.record(z.string(), z.string()),
  sandboxLevel: z.enum(SANDBOX_LEVELS),
  sandboxProbes: z.array(z.record(z.string(), z.unknown())).default([]),
});
export type ModelDescription = z.output<typeof modelDescription>;

/** What an operator asks for. */
export const deploymentSpec = z.strictObject({
  /** Scripts, commands and the page may leave it out: `deploymentName`. */
  name: z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/, 'a name has 1 to 64 letters, digits, _ . or -'),
  /** A local path or a hub name. */
  model: z.string().min(1, 'a path on the nodes or a hub name is needed'),
  tp: z.int().min(1).max(64).default(1),
  pp: z.int().min(1).max(64).default(1),
  dp: z.int().min(1).max(64).default(1),
  /** The copies of `dp` share one set of weights, each holding a part (FSDP2). */
  fsdp: z.boolean().default(false),
  /** `tp` divides the experts of a mixture instead of every layer. */
  expertParallel: z.boolean().default(false),
  dtype: z.enum(['float32', 'bfloat16', 'float16']).default('float32'),
  replicas: z.int().min(1).max(64).default(1),
  /** CPU slots that a rank takes of its node, also a fraction. */
  cpusPerRank: z.number().min(0.01).max(1024).default(1),
  /** How the ranks of a replica lie over the nodes; the strict ones refuse anything else. */
  placement: z.enum(['pack', 'spread', 'strict-pack', 'strict-spread']).default('pack'),
});
export type DeploymentSpec = z.output<typeof deploymentSpec>;

/** What a deployment is called unless it is told: the last part of the model's path or hub name. */
export function deploymentName(model: string): string {
  const last = model.replace(/\/+$/, '').split('/').at(-1)!;
  return last.replace(/[^A-Za-z0-9_.-]/g, '-').slice(0, 64) || 'model';
}

export const DEPLOYMENT_STATUSES = ['deploying', 'ready', 'restarting', 'failed', 'undeploying'] as const;

/** Bytes: of the weights by the checkpoint's headers (0 = not known), as held after the load, of the whole process. */
const rankMemory = z.object({ neededBytes: z.int(), heldBytes: z.int(), processBytes: z.int() });

const replica = z.object({
  index: z.int(),
  epoch: z.int(),
  state: z.enum(['starting', 'ready', 'restarting', 'failed']),
  address: z.string(),
  ranks: z
    .array(z.object({ rank: z.int(), node: z.string(), pid: z.int(), memory: rankMemory.optional() }))
    .default([]),
  reason: errorJson.nullish(),
});

/** The registry's record of a deployment. */
export const deployment = z.object({
  spec: deploymentSpec,
  status: z.enum(DEPLOYMENT_STATUSES),
  reason: errorJson.nullish(),
  replicas: z.array(replica).default([]),
  description: modelDescription.nullish(),
  /** Unix milliseconds. */
  updatedAt: z.number(),
});
export type Deployment = z.output<typeof deployment>;
