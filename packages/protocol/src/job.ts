/**
 * The job document: what a script asks for, as plain data. Its JSON Schema is printed from here and checked in Python.
 * Not here: what can only be checked against a deployment (module names, shapes, tokens).
 * @module
 */
import { z } from 'zod';
import { graphStep } from './graph.js';

/** A document may have this many bytes of UTF-8 JSON. */
export const MAX_DOCUMENT_BYTES = 64 * 1024;

const name = z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/);
const sha256 = z.string().regex(/^sha256:[0-9a-f]{64}$/);

/** A tensor or text uploaded before: `client.artifacts.upload()`. */
export const artifactRef = z.strictObject({ artifact: sha256 });

/** Python text, in the document or uploaded. */
const source = z.union([z.string().min(1).max(MAX_DOCUMENT_BYTES), artifactRef]);

const size = z
  .int()
  .min(1)
  .max(1 << 20);
const trainable = z.boolean().default(true);

/** A module that hooks can call: one per job, shared by all its hooks and runs. */
export const moduleSpec = z.discriminatedUnion('kind', [
  /** torch.nn.Linear */
  z.strictObject({
    kind: z.literal('linear'),
    inFeatures: size,
    outFeatures: size,
    bias: z.boolean().default(true),
    trainable,
  }),
  /** Two linear maps without bias through `rank`. */
  z.strictObject({ kind: z.literal('lowRank'), inFeatures: size, outFeatures: size, rank: size, trainable }),
  /** Linear, activation, linear. */
  z.strictObject({
    kind: z.literal('mlp'),
    inFeatures: size,
    hiddenFeatures: size,
    outFeatures: size,
    activation: z.enum(['relu', 'gelu', 'silu', 'tanh']).default('gelu'),
    trainable,
  }),
  /** `def build(): -> torch.nn.Module` */
  z.strictObject({ kind: z.literal('python'), source, trainable }),
]);

/** Which part of the activation the edit sees and returns; a token that is named twice is chosen once. */
export const where = z.strictObject({
  /** Rows of the batch. */
  rows: z.array(z.int().min(0)).min(1).optional(),
  /** Token positions; negative ones count from the end of the prompt, `to` is exclusive. */
  positions: z
    .union([z.array(z.int()).min(1), z.strictObject({ from: z.int().optional(), to: z.int().optional() })])
    .optional(),
  /** Forward calls of a generation; 0 is the prompt. */
  steps: z.array(z.int().min(0)).min(1).optional(),
});

/** The editing function. */
export const edit = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({
    kind: z.literal('python'),
    source,
    entry: z
      .string()
      .regex(/^[A-Za-z_]\w{0,63}$/)
      .default('edit'),
  }),
  /** Computed by the ranks, outside of any sandbox; the last step is the result, of the shape and dtype of `x`. */
  z.strictObject({
    kind: z.literal('graph'),
    /** Operands by name, uploaded; floating ones are used in the dtype of `x`. */
    tensors: z.record(z.string().regex(/^[A-Za-z_]\w{0,63}$/), artifactRef).default({}),
    steps: z.array(graphStep).min(1).max(256),
  }),
]);

export const HOOK_TYPES = ['forward', 'forward_pre', 'full_backward', 'full_backward_pre', 'tensor'] as const;
export type HookType = (typeof HOOK_TYPES)[number];

/** FlexModel's HookFunction as data. */
export const hook = z.strictObject({
  /** Default `hook-<position>`. */
  name: name.optional(),
  /** Dotted path; `*` stands for one segment, `**` for any number. One hook per match, in module order. */
  moduleName: z.string().min(1).max(256),
  hookType: z.enum(HOOK_TYPES).default('forward'),
  /** Checked against the shard plan; null per dim or as a whole: take it from the plan. */
  expectedShape: z.array(z.int().min(0).nullable()).max(8).nullable().default(null),
  /**
   * Which tensor leaf of the output or the arguments, depth first, as the model's description counts them: it means the
   * same tensor in every run, and none where that is absent (the mask of a batch without padding).
   */
  unpackIdx: z.int().min(0).max(1024).default(0),
  edit: edit.default({ kind: 'none' }),
  /** Along which dim data parallel copies are put together; absent: the dim that the plan knows to hold the batch. */
  dpDim: z.int().min(0).max(7).optional(),
  /** Which value becomes the activation of the result: before or after the edit. */
  save: z.enum(['pre', 'post', 'none']).default('pre'),
  /** Of the saved activation; it is cast before it moves. Absent: the model's own. Integers stay as they are. */
  dtype: z.enum(['float32', 'bfloat16', 'float16']).optional(),
  where: where.optional(),
  /** Besides `all`. */
  groups: z.array(name).max(64).default([]),
});

/** A parameter by name, whole or a part: per dim `[from, to)` or null for all of it; missing dims are whole. */
export const parameterRequest = z.union([
  z.string().min(1),
  z.strictObject({
    name: z.string().min(1),
    slice: z
      .array(z.array(z.int().min(0)).length(2).nullable())
      .min(1)
      .max(8),
  }),
]);

/** Which hooks of the job are on in a run. */
export const hookSelection = z
  .strictObject({
    groups: z.array(name).min(1).optional(),
    /** The hooks outside of `groups`. */
    complement: z.boolean().optional(),
    names: z.array(name).optional(),
  })
  .refine((value) => value.names === undefined || value.groups === undefined, {
    error: 'give groups or names, not both',
  })
  .refine((value) => value.complement === undefined || value.groups !== undefined, { error: 'complement needs groups' })
  .meta({ not: { required: ['names', 'groups'] }, dependentRequired: { complement: ['groups'] } });

const message = z.strictObject({ role: z.enum(['system', 'user', 'assistant', 'tool']), content: z.string() });

/** Exactly one kind of input. */
export const inputs = z
  .strictObject({
    text: z.array(z.string()).min(1).optional(),
    chat: z.array(z.array(message).min(1)).min(1).optional(),
    tokenIds: z.array(z.array(z.int())).min(1).optional(),
    tensors: z.record(z.string(), artifactRef).optional(),
  })
  .refine((value) => Object.values(value).filter((given) => given !== undefined).length === 1, {
    error: 'give exactly one of text, chat, tokenIds, tensors',
  })
  .meta({ minProperties: 1, maxProperties: 1 });

const token = z.union([z.string().min(1), z.int().min(0)]);

/** A scalar to differentiate, in float32. Sums over rows: a row's gradient does not depend on the rows beside it. */
export const loss = z.discriminatedUnion('kind', [
  /** Cross entropy of the next token, the mean over every real token that has one before it. */
  z.strictObject({ kind: z.literal('nextToken') }),
  /** Logit of `target` minus that of `foil` at a position, summed over the rows; a text must be one token. */
  z.strictObject({ kind: z.literal('logitDiff'), position: z.int().default(-1), target: token, foil: token }),
  /** All logits at a position, or at every real token, summed. */
  z.strictObject({ kind: z.literal('sumLogits'), position: z.int().optional() }),
  /** `def loss(logits, save_ctx, modules): -> scalar`; logits are [batch, sequence, vocabulary], run in the sandbox. */
  z.strictObject({ kind: z.literal('python'), source, entry: z.string().default('loss') }),
]);

/** What a run gives back besides the captures of its hooks. */
export const runReturn = z.strictObject({
  logits: z.enum(['none', 'last', 'all']).default('none'),
  /** The most probable next tokens at the last position of every row. */
  topK: z.int().min(0).max(1000).default(0),
});

const common = {
  /** Default `run-<position>`. */
  name: name.optional(),
  inputs,
  hooks: hookSelection.default({ groups: ['all'] }),
};

const optimizer = z.strictObject({
  kind: z.enum(['sgd', 'adam', 'adamw']),
  lr: z.number().positive(),
  weightDecay: z.number().min(0).optional(),
  momentum: z.number().min(0).optional(),
});

/** One pass through the model. */
export const run = z.discriminatedUnion('mode', [
  z.strictObject({ ...common, mode: z.literal('forward').optional(), return: runReturn.prefault({}) }),
  z.strictObject({
    ...common,
    mode: z.literal('generate'),
    maxNewTokens: z.int().min(1).max(65536).default(16),
    /** 0 takes the most probable token. */
    temperature: z.number().min(0).max(100).default(0),
    topP: z.number().gt(0).max(1).default(1),
    return: runReturn.prefault({}),
  }),
  z.strictObject({ ...common, mode: z.literal('backward'), loss, return: runReturn.prefault({}) }),
  z.strictObject({
    ...common,
    mode: z.literal('train'),
    loss,
    steps: z.int().min(1).max(1_000_000),
    optimizer,
    /** A checkpoint as an artifact after every so many steps and after the last one; a retry goes on from the last. */
    checkpointEvery: z.int().min(1).optional(),
  }),
]);

/** Of a document that says nothing of it. */
export const DEFAULT_TIMEOUT_MS = 60_000;

/** Nothing is filled in here: what a document asks for is refused above the operator's maximum, a default becomes it. */
export const limits = z.strictObject({
  /** The whole job, from running to its end, in milliseconds; absent: 60 s. */
  timeoutMs: z.int().min(1).max(86_400_000).optional(),
  /** From the submission until it runs, in milliseconds; a job that does not run by then ends as `expired`. */
  startTimeoutMs: z
    .int()
    .min(1)
    .max(7 * 86_400_000)
    .optional(),
  /** One call of an editing function, in milliseconds; absent: 10 s. */
  editTimeoutMs: z.int().min(1).max(600_000).optional(),
  /** Memory of the sandbox beyond its start, in bytes; absent: 2 GiB. */
  editMemoryBytes: z
    .int()
    .min(1 << 20)
    .max(2 ** 40)
    .optional(),
  /** Building all modules and reading all sources, in milliseconds; absent: 20 s. */
  initTimeoutMs: z.int().min(1).max(600_000).optional(),
  /** Calls of editing functions in the whole job; absent: 20 000. */
  editCalls: z.int().min(1).max(10_000_000).optional(),
  /** Calls whose gradients are kept at one time, until a step or the end of a run; absent: 256. */
  liveGraphs: z.int().min(1).max(1_000_000).optional(),
  /** Of what edits print, in bytes; the rest is dropped. Absent: 64 KiB. */
  logBytes: z
    .int()
    .min(0)
    .max(1 << 24)
    .optional(),
  /** Of the tensors in `save_ctx` and of modules that come back, in bytes; absent: 1 GiB. */
  saveCtxBytes: z
    .int()
    .min(0)
    .max(2 ** 40)
    .optional(),
  /** How many tensors of `save_ctx` come back; absent: 256. */
  saveCtxTensors: z.int().min(0).max(65_536).optional(),
});

/** The whole document. `parseJobDocument` is the way to check one. */
export const jobDocument = z
  .strictObject({
    version: z.literal(1),
    /** Submitting the same id twice returns the first job. */
    jobId: z
      .string()
      .regex(/^[A-Za-z0-9_-]{1,128}$/)
      .optional(),
    /** Name of a deployment. */
    model: z.string().min(1).max(128),
    /** Of every random choice: sampling, modules, the edits' own generators. */
    seed: z
      .int()
      .min(0)
      .max(2 ** 32 - 1)
      .default(0),
    labels: z.record(z.string().max(64), z.string().max(256)).default({}),
    /** Before all jobs of a lower one in the queue of the deployment; how high one may go is the operator's to say. */
    priority: z.int().min(-3).max(3).default(0),
    limits: limits.prefault({}),
    modules: z.record(name, moduleSpec).default({}),
    hooks: z.array(hook).max(1024).default([]),
    runs: z.array(run).min(1).max(256),
    return: z.strictObject({ parameters: z.array(parameterRequest).max(256).default([]) }).prefault({}),
  })
  .meta({ maxBytes: MAX_DOCUMENT_BYTES });

/** A document as scripts write it: defaults may be left out. */
export type JobDocumentInput = z.input<typeof jobDocument>;

type Parsed = z.output<typeof jobDocument>;
type Named<T> = T extends unknown ? Omit<T, 'name'> & { readonly name: string } : never;
type WithMode<T> = T extends { mode?: 'forward' | undefined } ? Omit<T, 'mode'> & { readonly mode: 'forward' } : T;

/** A checked document with every default filled in. */
export interface JobDocument extends Omit<Parsed, 'hooks' | 'runs'> {
  readonly hooks: readonly Named<Parsed['hooks'][number]>[];
  readonly runs: readonly Named<WithMode<Parsed['runs'][number]>>[];
}
