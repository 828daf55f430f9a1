/**
 * Ours <-> the generated messages of worker.proto; a new member fails to compile until it is mapped.
 * Not here: calls. Besides the two clients, nothing else imports the generated code.
 * @module
 */
import {
  PatchbayError,
  error,
  modelDescription,
  type Deployment,
  type DeploymentSpec,
  type ModelDescription,
} from '@patchbay/protocol';
import {
  ReplicaState,
  type DeployRequest,
  type DeployResponse,
  type ExecuteRequest,
  type ExecuteResponse,
  type Deployment as DeploymentMessage,
  type Replica as ReplicaMessage,
} from '@patchbay/protocol/worker';

type Replica = Deployment['replicas'][number];

/** A replica as the cluster tells of it; the token stays in memory, it is never stored. */
export interface ActualReplica extends Replica {
  readonly token: string;
}

/** A deployment as the cluster tells of it. */
export interface ActualDeployment {
  readonly name: string;
  readonly replicas: readonly ActualReplica[];
  readonly description: ModelDescription | undefined;
}

/** Names a job's attempt on a gang. */
export interface GangKey {
  readonly jobId: string;
  readonly attempt: number;
  readonly epoch: number;
}

/** What a gang needs to run an attempt. */
export interface GangJob {
  readonly jobId: string;
  readonly attempt: number;
  readonly document: string;
  readonly deadlineUnixMs: number;
  readonly artifactUrl: string;
  readonly ticket: string;
  /** By training run the checkpoint to go on from. */
  readonly resume: Readonly<Record<string, Checkpoint>>;
  /** Of a job that is traced. */
  readonly traceparent?: string | undefined;
}

/** Of a training run, after so many steps. */
export interface Checkpoint {
  readonly sha256: string;
  readonly step: number;
}

/** One message of a gang. */
export type GangUpdate =
  | { readonly kind: 'running' }
  | { readonly kind: 'event' | 'validated'; readonly json: Buffer }
  /** `spans` of a traced job. */
  | { readonly kind: 'done' | 'failed'; readonly json: Buffer; readonly spans: Buffer };

export type DeployProgress = { readonly phase: string; readonly message: string; readonly fraction?: number };
export type DeployUpdate =
  | { readonly kind: 'progress'; readonly progress: DeployProgress }
  | { readonly kind: 'ready'; readonly deployment: ActualDeployment }
  | { readonly kind: 'failed'; readonly error: PatchbayError };

const REPLICA_STATE = {
  [ReplicaState.REPLICA_STATE_UNSPECIFIED]: 'starting',
  [ReplicaState.REPLICA_STATE_STARTING]: 'starting',
  [ReplicaState.REPLICA_STATE_READY]: 'ready',
  [ReplicaState.REPLICA_STATE_RESTARTING]: 'restarting',
  [ReplicaState.REPLICA_STATE_FAILED]: 'failed',
  [ReplicaState.UNRECOGNIZED]: 'failed',
} as const satisfies Record<ReplicaState, Replica['state']>;

export function startRequest(job: GangJob, epoch: number): ExecuteRequest {
  const { jobId, attempt, document, deadlineUnixMs, artifactUrl, ticket, resume, traceparent = '' } = job;
  const resumeJson = Object.keys(resume).length === 0 ? '' : JSON.stringify(resume);
  const documentJson = Buffer.from(document);
  const value = { documentJson, deadlineUnixMs, artifactUrl, ticket, afterSeq: 0, resumeJson, traceparent };
  return { key: { jobId, attempt, epoch }, command: { $case: 'start', value } };
}

/** The same start for a stream that was opened again. */
export function startAgain(request: ExecuteRequest, afterSeq: number): ExecuteRequest {
  const { command } = request;
  if (command?.$case !== 'start') return request;
  return { ...request, command: { $case: 'start', value: { ...command.value, afterSeq } } };
}

export function cancelRequest(key: GangKey, reason: string): ExecuteRequest {
  return { key, command: { $case: 'cancel', value: { reason } } };
}

export function validateRequest(key: GangKey, document: string): ExecuteRequest {
  return { key, command: { $case: 'validate', value: { documentJson: Buffer.from(document) } } };
}

/** Undefined for a message without a body, which a newer cluster may send. */
export function readUpdate({ update, spansJson: spans }: ExecuteResponse): GangUpdate | undefined {
  switch (update?.$case) {
    case undefined:
      return undefined;
    case 'running':
      return { kind: 'running' };
    case 'eventJson':
      return { kind: 'event', json: update.value };
    case 'doneJson':
      return { kind: 'done', json: update.value, spans };
    case 'failedJson':
      return { kind: 'failed', json: update.value, spans };
    case 'validatedJson':
      return { kind: 'validated', json: update.value };
  }
}

/** A typed error from its JSON; anything unreadable becomes `PB_INTERNAL`. */
export function readError(json: Buffer | string): PatchbayError {
  try {
    return PatchbayError.fromJson(JSON.parse(json.toString()));
  } catch (cause) {
    return error('PB_INTERNAL', { reason: 'an unreadable error came from the cluster' }, { cause });
  }
}

/** `artifactUrl` is tried by rank 0 before the deployment counts as ready. */
export function deployRequest(spec: DeploymentSpec, artifactUrl: string): DeployRequest {
  const { name, model, dtype, pp, dp, tp, fsdp, expertParallel, replicas, cpusPerRank, placement } = spec;
  return { name, model, dtype, pp, dp, tp, fsdp, expertParallel, replicas, cpusPerRank, placement, artifactUrl };
}

function readReplica(message: ReplicaMessage): ActualReplica {
  const { index, epoch, address, token } = message;
  return {
    index,
    epoch,
    address,
    token,
    state: REPLICA_STATE[message.state],
    ranks: message.ranksJson === '' ? [] : (JSON.parse(message.ranksJson) as Replica['ranks']),
    reason: message.reasonJson === '' ? undefined : readError(message.reasonJson).toJSON(),
  };
}

/** Descriptions are large and rarely change, so each text is checked once. */
const descriptions = new Map<string, { readonly json: string; readonly value: ModelDescription }>();

function readDescription(name: string, json: string): ModelDescription | undefined {
  if (json === '') return undefined;
  const known = descriptions.get(name);
  if (known?.json === json) return known.value;
  const value = modelDescription.parse(JSON.parse(json));
  descriptions.set(name, { json, value });
  return value;
}

export function readDeployment({ name, replicas, descriptionJson }: DeploymentMessage): ActualDeployment {
  return { name, replicas: replicas.map(readReplica), description: readDescription(name, descriptionJson) };
}

export function readDeployUpdate({ event }: DeployResponse): DeployUpdate | undefined {
  switch (event?.$case) {
    case undefined:
      return undefined;
    case 'progressJson':
      return { kind: 'progress', progress: JSON.parse(event.value) as DeployProgress };
    case 'ready':
      return { kind: 'ready', deployment: readDeployment(event.value) };
    case 'failedJson':
      return { kind: 'failed', error: readError(event.value) };
  }
}
