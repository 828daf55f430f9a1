/** What a job gives back. `result.json` of the CLI is this, with file contents beside it. @module */
import { z } from 'zod';
import { errorJson } from './errors.js';
import { JOB_STATES } from './states.js';
import { dtypeName, shape } from './tensor.js';

/** A tensor in one of the result's files, or the reason why it is not there. */
const tensorRef = z.object({ tensor: z.string(), file: z.string().optional() });

/** Which token a captured row belongs to. */
export const rowLabel = z.object({
  row: z.int(),
  /** Absolute position in the sequence. */
  position: z.int(),
  tokenId: z.int(),
  /** Forward call of a generation; 0 is the prompt. */
  step: z.int(),
});

/** One captured tensor: a hook, a module, a call. */
export const activation = z.object({
  run: z.string(),
  hook: z.string(),
  module: z.string(),
  /** Counts the calls of the module in the run. */
  call: z.int().nullable(),
  /** Key in `file`. */
  tensor: z.string().optional(),
  /** `gradients.safetensors` for the hook types that see gradients, else `activations.safetensors`. */
  file: z.string().optional(),
  shape: shape.optional(),
  dtype: dtypeName.optional(),
  /** One per row of the flattened leading dims; null for a padded slot. Absent when the tensor has no token dims. */
  rows: z.array(rowLabel.nullable()).optional(),
  /** Typed reason why there is no tensor. */
  missing: z.string().optional(),
});

export const ROUTES = ['none', 'local', 'read', 'root', 'broadcast'] as const;

/** What a hook did in a run. */
export const hookReport = z.object({
  run: z.string(),
  hook: z.string(),
  module: z.string(),
  calls: z.int(),
  /** Token rows whose values the edit changed. */
  rowsTouched: z.int(),
  /** |after - before| / |before|, 2-norm over all calls. */
  /** Values that the edit made NaN or infinite; each hook that did is also in `warnings`. */
  notFinite: z.int().optional(),
  relativeChange: z.number().nullable(),
  route: z.enum(ROUTES),
  /** Bytes that arrived at the edit root from other ranks. */
  gatheredBytes: z.int(),
  gatherMs: z.number(),
  editMs: z.number(),
  scatterMs: z.number(),
});

const topToken = z.object({ tokenId: z.int(), token: z.string(), logit: z.number(), probability: z.number() });

/** Outputs of a run. */
export const runResult = z.object({
  logits: tensorRef.optional(),
  /** Per row, best first. */
  topK: z.array(z.array(topToken)).optional(),
  /** Per row: the prompt as the model saw it. */
  tokenIds: z.array(z.array(z.int())).optional(),
  tokens: z.array(z.array(z.string())).optional(),
  /** `generate`: per row the new tokens and their text. */
  generatedTokenIds: z.array(z.array(z.int())).optional(),
  text: z.array(z.string()).optional(),
  stopReasons: z.array(z.enum(['length', 'eos'])).optional(),
  /** `backward`: the value that was differentiated. `train`: one per step, before the step. */
  loss: z.number().nullable().optional(),
  losses: z.array(z.number().nullable()).optional(),
});

/** A file of the result: in the artifact store, or inline when all files together are small. */
export const resultFile = z.object({
  sha256: z.string(),
  bytes: z.int(),
  /** base64 */
  inline: z.string().optional(),
});

export const SANDBOX_LEVELS = ['isolated', 'confined', 'filtered', 'trusted'] as const;

export const mesh = z.object({
  pp: z.int().min(1),
  dp: z.int().min(1),
  tp: z.int().min(1),
  /** The copies of `dp` share one set of weights (FSDP2). Absent where they do not. */
  fsdp: z.boolean().optional(),
  /** `tp` divides the experts only. Absent where it divides every layer. */
  expertParallel: z.boolean().optional(),
});

const fingerprint = z.object({
  modelSha256: z.string(),
  torch: z.string(),
  transformers: z.string(),
  ray: z.string().optional(),
  mesh,
  dtype: z.string(),
  sandboxLevel: z.enum(SANDBOX_LEVELS),
});

/** Milliseconds. */
const timings = z.record(z.string(), z.number());

export const jobResult = z.object({
  jobId: z.string(),
  state: z.enum(JOB_STATES),
  attempt: z.int(),
  model: z.string(),
  error: errorJson.nullable(),
  runs: z.record(z.string(), runResult).default({}),
  activations: z.array(activation).default([]),
  saveCtx: z.record(z.string(), z.unknown()).default({}),
  /** Parameters asked for by name: keys in `parameters.safetensors`, of a part `name[0:4,:]`. */
  parameters: z
    .array(z.object({ name: z.string(), tensor: z.string().optional(), missing: z.string().optional() }))
    .default([]),
  hooks: z.array(hookReport).default([]),
  timings: timings.default({}),
  fingerprint: fingerprint.optional(),
  warnings: z.array(z.string()).default([]),
  files: z.record(z.string(), resultFile).default({}),
  /** How the orchestrator reached the ranks. */
  controlRoute: z.enum(['direct', 'gateway']).optional(),
});
export type JobResult = z.output<typeof jobResult>;

/** The part of the result that the gang knows; the orchestrator adds the rest. */
export const gangResult = jobResult.omit({ jobId: true, state: true, attempt: true, model: true, error: true });
