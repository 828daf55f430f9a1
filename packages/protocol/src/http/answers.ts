/** What the HTTP service answers, as schemas: the one home that the orchestrator's types, the page's and OpenAPI come from. @module */
import { z } from 'zod';
import { errorJson } from '../errors.js';
import { jobEvent } from '../events.js';
import { jobStatus } from '../job-record.js';
import { deployment, DEPLOYMENT_STATUSES } from '../model.js';
import { SANDBOX_LEVELS } from '../result.js';
import { JOB_STATES } from '../states.js';
import { checkedDocument } from './requests.js';

const role = z.enum(['operator', 'reader', 'submitter']);
export type Role = z.output<typeof role>;

/** Who one is. Without a role one may ask for nothing else. */
export const session = z.object({
  /** False: the service has no token, everybody is an operator. */
  required: z.boolean(),
  role: role.nullable(),
});
export type Session = z.output<typeof session>;

export const submitted = z.object({
  jobId: z.string(),
  /** False when the id was there already with this document. */
  created: z.boolean(),
});
export type Submitted = z.output<typeof submitted>;

export const jobPage = z.object({
  jobs: z.array(jobStatus),
  /** There may be more; absent at the end. */
  nextCursor: z.string().optional(),
});
export type JobPage = z.output<typeof jobPage>;

export const jobWithDocument = jobStatus.extend({ document: checkedDocument });
export type JobWithDocument = z.output<typeof jobWithDocument>;

/** An entry of a job's log with its cursor, which is also the event's id. */
export const loggedEvent = z.intersection(jobEvent, z.object({ cursor: z.string() }));

export const place = z.object({
  /** Jobs that are taken before this one; null when it does not wait in the queue. */
  ahead: z.int().nullable(),
  /** Milliseconds from now, from the mean of the last hour; null when too few jobs ran to tell, or the queue stands still. */
  expectedStartMs: z.number().nullable(),
});
export type Place = z.output<typeof place>;

/** Where the bytes of a tensor of a result are. */
export const tensorPlace = z.object({
  file: z.string(),
  name: z.string(),
  /** As safetensors writes it: `F32`. */
  dtype: z.string(),
  shape: z.array(z.int()).readonly(),
  sha256: z.string(),
  /** Bytes of the file, `end` exclusive. */
  begin: z.int(),
  end: z.int(),
  /** True: the bytes are in the result itself (`files[file].inline`), not in the store. */
  inline: z.boolean(),
});
export type TensorPlace = z.output<typeof tensorPlace>;

export const tensorPlaces = z.object({ tensors: z.array(tensorPlace) });

export const statsPoint = z.object({
  /** Start of the minute, unix milliseconds. */
  at: z.int(),
  completed: z.int(),
  failed: z.int(),
  cancelled: z.int(),
  /** Milliseconds from submission to the end of completed jobs; null when there were none. */
  p50: z.number().nullable(),
  p95: z.number().nullable(),
});
export type StatsPoint = z.output<typeof statsPoint>;

export const queueCounts = z.object({
  waiting: z.int(),
  running: z.int(),
  /** Gives out no more jobs; those that run go on. */
  draining: z.boolean(),
});
export type QueueCounts = z.output<typeof queueCounts>;

export const queueOverview = queueCounts.extend({
  model: z.string(),
  status: z.enum(DEPLOYMENT_STATUSES),
  replicas: z.int(),
  ready: z.int(),
  points: z.array(statsPoint),
});
export type QueueOverview = z.output<typeof queueOverview>;

export const queueOverviews = z.object({ queues: z.array(queueOverview) });

/** A step of any job. */
export const change = z.object({
  cursor: z.string(),
  id: z.string(),
  model: z.string(),
  state: z.enum([...JOB_STATES, 'removed']),
  attempt: z.int(),
  at: z.number(),
});
export type Change = z.output<typeof change>;

/** By event: `jobs` has the steps; `ready` nothing to tell yet; `deployments` and `reset`: read them, or everything, anew. */
export const changes = z.union([z.array(change), z.object({})]);

const amounts = z.record(z.string(), z.number());
export const cluster = z.object({
  nodes: z.array(
    z.object({ id: z.string(), address: z.string(), alive: z.boolean(), resources: amounts, used: amounts }),
  ),
  versions: z.record(z.string(), z.string()),
});
export type Cluster = z.output<typeof cluster>;

export const deployments = z.object({ models: z.array(deployment) });

/** A line of a deployment's progress; the last one is `ready` or `failed`. */
export const deployLine = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('progress'),
    phase: z.string(),
    message: z.string(),
    /** 0 to 1 of the phase. */
    fraction: z.number().optional(),
  }),
  z.object({ type: z.literal('ready'), deployment }),
  z.object({ type: z.literal('failed'), error: errorJson }),
]);
export type DeployLine = z.output<typeof deployLine>;

export const undeployed = z.object({
  /** False when there was no such deployment. */
  existed: z.boolean(),
});

export const validated = z.object({ warnings: z.array(z.string()) });
export type Validated = z.output<typeof validated>;

export const stored = z.object({ sha256: z.string(), bytes: z.int() });

export const drainState = z.object({
  draining: z.boolean(),
  /** Jobs that it runs. */
  running: z.int(),
});
export type DrainState = z.output<typeof drainState>;

const part = z.object({ status: z.enum(['ok', 'away']), reason: z.string().optional() });
export const health = z.object({
  status: z.enum(['ok', 'degraded']),
  parts: z.object({
    redis: part,
    gateway: part.extend({ address: z.string() }),
    orchestrator: drainState,
    deployments: z.array(
      z.object({ name: z.string(), status: z.enum(DEPLOYMENT_STATUSES), reason: z.string().optional() }),
    ),
  }),
  /** The weakest level of all deployments; null while none is there to tell. */
  sandboxLevel: z.enum(SANDBOX_LEVELS).nullable(),
});
export type HealthReport = z.output<typeof health>;
