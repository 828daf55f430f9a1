/**
 * One wanted deployment in this process: its record, the connections to its gangs, and the replicas that jobs can get.
 * Not here: asking the cluster for anything (controller.ts).
 * @module
 */
import { PatchbayError, error, type Deployment, type ErrorJson } from '@patchbay/protocol';
import type { ActualDeployment, ActualReplica } from '../cluster-client/convert.js';
import type { GangConnection } from '../cluster-client/gang.js';
import { ReplicaPool } from './claim.js';

export type ConnectGang = (model: string, replica: ActualReplica) => GangConnection;

/** What the replicas are together. */
function statusOf(replicas: readonly ActualReplica[]): Deployment['status'] {
  const some = (state: ActualReplica['state']): boolean => replicas.some((replica) => replica.state === state);
  if (some('ready')) return 'ready';
  if (some('restarting')) return 'restarting';
  if (some('starting') || replicas.length === 0) return 'deploying';
  return 'failed';
}

/** A deployment that does not come up by itself: its jobs need not wait. */
function notReady(model: string, reason: ErrorJson | null | undefined): PatchbayError {
  const status = reason == null ? 'failed' : `failed: ${reason.message}`;
  const told = error('PB_MODEL_NOT_READY', { model, status });
  return new PatchbayError(told.code, told.message, told.context, false);
}

export class DeployedModel {
  readonly pool: ReplicaPool;
  private readonly gangs = new Map<number, GangConnection>();

  constructor(
    public record: Deployment,
    private readonly connect: ConnectGang,
  ) {
    this.pool = new ReplicaPool(this.name);
    if (record.status === 'failed') this.pool.refuse(notReady(this.name, record.reason));
  }

  get name(): string {
    return this.record.spec.name;
  }

  /** Takes over what the cluster tells. True when the record changed. */
  apply(actual: ActualDeployment): boolean {
    const known = new Set(actual.replicas.map(({ index }) => index));
    for (const [index, gang] of this.gangs) {
      if (known.has(index)) continue;
      gang.close();
      this.gangs.delete(index);
    }
    for (const replica of actual.replicas) this.follow(replica);
    const status = statusOf(actual.replicas);
    const reason = status === 'ready' ? undefined : actual.replicas.find((replica) => replica.reason != null)?.reason;
    if (status === 'failed') this.pool.refuse(notReady(this.name, reason));
    else this.pool.update([...this.gangs.values()]);
    // tokens are not stored
    const replicas = actual.replicas.map(({ token: _token, ...replica }) => replica);
    return this.change({ status, reason, replicas, description: actual.description ?? this.record.description });
  }

  /** Changes the record; true when that made a difference. */
  change(part: Partial<Omit<Deployment, 'spec' | 'updatedAt'>>): boolean {
    const next = { ...this.record, ...part };
    if (JSON.stringify(next) === JSON.stringify(this.record)) return false;
    this.record = { ...next, updatedAt: Date.now() };
    return true;
  }

  /** It will not come up: `reason` says why. */
  fail(reason: ErrorJson): boolean {
    this.pool.refuse(notReady(this.name, reason));
    return this.change({ status: 'failed', reason });
  }

  /** It was taken away: who waits or asks is told so, running jobs are lost. */
  close(cause: PatchbayError): void {
    this.pool.refuse(cause);
    for (const gang of this.gangs.values()) gang.close();
    this.gangs.clear();
  }

  private follow(replica: ActualReplica): void {
    const gang = this.gangs.get(replica.index);
    const same =
      gang?.usable === true && gang.target.epoch === replica.epoch && gang.target.address === replica.address;
    if (same && replica.state === 'ready') return;
    gang?.close();
    if (replica.state === 'ready') this.gangs.set(replica.index, this.connect(this.name, replica));
    else this.gangs.delete(replica.index);
  }
}
