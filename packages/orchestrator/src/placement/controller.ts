/**
 * Wanted against actual deployments: the registry in Redis says what is wanted, the gateway's watch what there is. Both are
 * found again after a restart of either side; what is wanted and not there is deployed, what is being removed is removed.
 * The cluster's deployments that nobody wants are left alone and named in the log.
 * @module
 */
import {
  error,
  nearest,
  toPatchbayError,
  type Deployment,
  type DeploymentSpec,
  type PatchbayError,
} from '@patchbay/protocol';
import type { ActualDeployment, DeployProgress } from '../cluster-client/convert.js';
import type { Gateway } from '../cluster-client/gateway.js';
import { OutageLog, type Logger } from '../log.js';
import type { Claim } from './claim.js';
import { DeployedModel, type ConnectGang } from './deployed-model.js';
import type { Registry } from './registry.js';

/** Who runs the jobs of the wanted deployments. */
export interface ModelUsers {
  wanted(model: string, replicas: number): void;
  /** Stops taking the model's jobs and ends those that wait. */
  gone(model: string, cause: PatchbayError): Promise<void>;
}

/** A deployment that is wanted and failed by no fault of its own is tried again, at first after this long. */
const AGAIN_MS = 1_000;
const LONGEST_AGAIN_MS = 30_000;

interface Deploying {
  readonly spec: DeploymentSpec;
  readonly listeners: Set<(progress: DeployProgress) => void>;
  readonly outcome: Promise<Deployment>;
}

const sameSpec = (one: DeploymentSpec, other: DeploymentSpec): boolean => JSON.stringify(one) === JSON.stringify(other);

export class Controller {
  private readonly models = new Map<string, DeployedModel>();
  private readonly deploying = new Map<string, Deploying>();
  private readonly undeploying = new Map<string, Promise<boolean>>();
  private readonly strangers = new Set<string>();
  /** By deployment: the pause before the next try, for those that are waiting for it. */
  private readonly pauses = new Map<string, number>();
  private readonly outage: OutageLog;
  private forgotten = 0;
  private closed = false;
  /** False until the gateway told what there is, and again while it is away. */
  gatewayReachable = false;

  constructor(
    private readonly registry: Registry,
    private readonly gateway: Gateway,
    private readonly connect: ConnectGang,
    private readonly users: ModelUsers,
    private readonly log: Logger,
  ) {
    this.outage = new OutageLog(log, 'gateway');
  }

  /** Takes up what was wanted before, then follows the cluster. */
  async start(): Promise<void> {
    await this.adoptRegistry();
    void this.gateway.watch({
      onDeployments: (actual) => this.reconcile(actual),
      onAway: (cause) => {
        this.gatewayReachable = false;
        this.outage.failed(cause);
      },
    });
  }

  list(): Deployment[] {
    return [...this.models.values()].map(({ record }) => record);
  }

  /** @throws `PB_MODEL_NOT_FOUND` with near names */
  get(name: string): DeployedModel {
    const model = this.models.get(name);
    if (model === undefined) throw this.notFound(name);
    return model;
  }

  claim(name: string, signal: AbortSignal, limitMs: number): Promise<Claim> {
    return this.get(name).pool.claim(signal, limitMs);
  }

  /**
   * Resolves when the model is ready; the same specification again joins or finds the first.
   * @throws `PB_MODEL_EXISTS`, `PB_GATEWAY_UNAVAILABLE`, or why the cluster cannot do it
   */
  async deploy(spec: DeploymentSpec, onProgress: (progress: DeployProgress) => void): Promise<Deployment> {
    const { name } = spec;
    const model = this.models.get(name);
    if (model !== undefined && model.record.status !== 'failed' && !sameSpec(model.record.spec, spec)) {
      throw error('PB_MODEL_EXISTS', { model: name });
    }
    if (model?.record.status === 'undeploying')
      throw error('PB_MODEL_NOT_READY', { model: name, status: 'being removed' });
    if (model?.record.status === 'ready') return model.record;
    const joined = this.deploying.get(name) ?? this.begin(spec, model === undefined);
    joined.listeners.add(onProgress);
    return joined.outcome.finally(() => joined.listeners.delete(onProgress));
  }

  /** Resolves to whether there was such a deployment. Its jobs fail. @throws `PB_GATEWAY_UNAVAILABLE`: it goes on when the gateway is back */
  async undeploy(name: string): Promise<boolean> {
    const model = this.models.get(name);
    if (model === undefined) return this.gateway.undeploy(name);
    const known = this.undeploying.get(name);
    if (known !== undefined) return known;
    const removal = this.remove(model).finally(() => this.undeploying.delete(name));
    this.undeploying.set(name, removal);
    return removal;
  }

  close(): void {
    this.closed = true;
    this.gateway.close();
    for (const model of this.models.values()) model.close(error('PB_ABORTED', {}));
  }

  private async remove(model: DeployedModel): Promise<true> {
    const { name } = model;
    model.change({ status: 'undeploying' });
    await this.registry.put(model.record);
    model.close(this.notFound(name));
    await this.gateway.undeploy(name);
    await this.forget(name);
    return true;
  }

  private async adoptRegistry(): Promise<void> {
    for (;;) {
      const before = this.forgotten;
      const records = await this.registry.all();
      // what was read may have been removed meanwhile
      if (before !== this.forgotten) continue;
      for (const [name, record] of records) {
        // `ready` was true of the cluster that wrote it; this one has to say so itself
        const status = record.status === 'ready' ? 'restarting' : record.status;
        if (!this.models.has(name)) this.want({ ...record, status });
      }
      return;
    }
  }

  private want(record: Deployment): DeployedModel {
    const model = new DeployedModel(record, this.connect);
    this.models.set(model.name, model);
    this.users.wanted(model.name, record.spec.replicas);
    return model;
  }

  private begin(spec: DeploymentSpec, isNew: boolean): Deploying {
    const listeners = new Set<(progress: DeployProgress) => void>();
    const outcome = this.bringUp(spec, isNew, (progress) => listeners.forEach((listener) => listener(progress)));
    const deploying = { spec, listeners, outcome: outcome.finally(() => this.deploying.delete(spec.name)) };
    this.deploying.set(spec.name, deploying);
    return deploying;
  }

  private async bringUp(
    spec: DeploymentSpec,
    isNew: boolean,
    onProgress: (progress: DeployProgress) => void,
  ): Promise<Deployment> {
    let started = false;
    const record: Deployment = { spec, status: 'deploying', replicas: [], updatedAt: Date.now() };
    if (isNew) this.want(record);
    else this.users.wanted(spec.name, spec.replicas);
    const model = this.get(spec.name);
    model.record = { ...record, description: model.record.description };
    model.pool.hold();
    await this.registry.put(model.record);
    try {
      const actual = await this.gateway.deploy(spec, onProgress, () => (started = true));
      model.apply(actual);
      this.pauses.delete(spec.name);
      await this.registry.put(model.record);
      return model.record;
    } catch (cause) {
      await this.notUp(model, toPatchbayError(cause), isNew, started);
      throw cause;
    }
  }

  /** A first try that failed leaves nothing behind, unless its outcome is not known: then the next watch decides. */
  private async notUp(model: DeployedModel, cause: PatchbayError, isNew: boolean, started: boolean): Promise<void> {
    this.log.warn({ deployment: model.name, err: cause.toJSON() }, 'not deployed');
    const unknown = cause.code === 'PB_GATEWAY_UNAVAILABLE' && (started || !isNew);
    if (unknown || this.closed || this.models.get(model.name) !== model) return;
    if (isNew) return this.forget(model.name, cause);
    // ranks that are lost again and again have shown something; anything else retryable says nothing of the model
    if (cause.retryable && cause.code !== 'PB_GANG_LOST') return this.againLater(model);
    model.fail(cause.toJSON());
    await this.registry.put(model.record);
  }

  private againLater(model: DeployedModel): void {
    const pause = this.pauses.get(model.name) ?? AGAIN_MS;
    this.pauses.set(model.name, Math.min(2 * pause, LONGEST_AGAIN_MS));
    setTimeout(() => {
      const wanted = !this.closed && this.models.get(model.name) === model && model.record.status === 'deploying';
      if (wanted && this.gatewayReachable && !this.deploying.has(model.name)) this.restore(model);
    }, pause).unref();
  }

  private async forget(name: string, cause: PatchbayError = this.notFound(name)): Promise<void> {
    this.models.get(name)?.close(cause);
    await this.registry.delete(name);
    this.models.delete(name);
    this.forgotten += 1;
    await this.users.gone(name, cause);
  }

  private reconcile(actual: readonly ActualDeployment[]): void {
    const first = !this.gatewayReachable;
    this.gatewayReachable = true;
    this.outage.recovered();
    const there = new Map(actual.map((deployment) => [deployment.name, deployment]));
    const known = [...this.models.values()];
    for (const model of known) this.follow(model, there.get(model.name), first);
    const adopted = this.adoptRegistry().then(() => {
      for (const model of this.models.values())
        if (!known.includes(model)) this.follow(model, there.get(model.name), first);
      this.nameStrangers(there.keys());
    });
    this.background(adopted);
  }

  private follow(model: DeployedModel, actual: ActualDeployment | undefined, first: boolean): void {
    const { status } = model.record;
    if (status === 'undeploying') this.background(this.undeploy(model.name));
    else if (actual !== undefined) this.take(model, actual);
    // what the cluster refused is tried again only when another gateway, or the same one again, is there
    else if (!this.deploying.has(model.name) && (first || status !== 'failed')) this.restore(model);
  }

  private take(model: DeployedModel, actual: ActualDeployment): void {
    if (model.apply(actual)) this.background(this.registry.put(model.record));
  }

  /**
   * Wanted, but not among what the cluster tells. A gateway that just started may not have found it yet, so what runs there
   * goes on: if it is still there, deploying finds it.
   */
  private restore(model: DeployedModel): void {
    this.log.warn({ deployment: model.name }, 'not among what the cluster tells, deploying it');
    this.background(this.begin(model.record.spec, false).outcome);
  }

  private nameStrangers(names: Iterable<string>): void {
    for (const name of names) {
      if (this.models.has(name) || this.strangers.has(name)) continue;
      this.strangers.add(name);
      this.log.warn({ deployment: name }, 'the cluster has a deployment that is not in the registry');
    }
  }

  private background(work: Promise<unknown>): void {
    work.catch((cause: unknown) => {
      if (!this.closed) this.log.error({ err: toPatchbayError(cause).toJSON() }, 'placement');
    });
  }

  private notFound(name: string): PatchbayError {
    const near = nearest(
      name,
      [...this.models.keys()].filter((known) => known !== name),
    )[0];
    return error('PB_MODEL_NOT_FOUND', { model: name }, near === undefined ? {} : { hint: `Did you mean "${near}"?` });
  }
}
