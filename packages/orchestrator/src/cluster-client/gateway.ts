/**
 * The cluster's gateway: deploy, undeploy, watch, health, and one job's way round to a supervisor.
 * Not here: which deployments are wanted (placement/controller.ts).
 * @module
 */
import { credentials, type ClientReadableStream, type ServiceError } from '@grpc/grpc-js';
import { error, isPatchbayError, toPatchbayError, type DeploymentSpec, type PatchbayError } from '@patchbay/protocol';
import { cluster, type Cluster } from '@patchbay/protocol/http';
import { GatewayClient, type ExecuteResponse, type ExecuteViaRequest } from '@patchbay/protocol/worker';
import { CHANNEL_OPTIONS, bearer, dial, reasonOf, sentError } from './channel.js';
import {
  deployRequest,
  readDeployUpdate,
  readDeployment,
  type ActualDeployment,
  type DeployProgress,
  type DeployUpdate,
} from './convert.js';

const DIAL_MS = 2_000;
const CALL_MS = 10_000;
const UNDEPLOY_MS = 60_000;
const WATCH_PAUSE_MS = 500;
/** A deployment whose call broke is asked for again, which finds the first one: a busy machine is enough to break a connection. */
const DEPLOY_TRIES = 3;

export interface GatewayHealth {
  readonly protocolVersion: string;
  readonly rayConnected: boolean;
  readonly reason: string;
}

export interface DeploymentsWatcher {
  /** Everything that is deployed, after every change. */
  onDeployments(deployments: readonly ActualDeployment[]): void;
  onAway(cause: unknown): void;
}

export class Gateway {
  private readonly client: GatewayClient;
  private closed = false;
  private watching: ClientReadableStream<unknown> | undefined;
  private wake: (() => void) | undefined;

  constructor(
    readonly address: string,
    private readonly token: string,
    /** Where the ranks are to put results; asked for when something is deployed. */
    private readonly artifactUrl: () => string = () => '',
  ) {
    this.client = new GatewayClient(address, credentials.createInsecure(), CHANNEL_OPTIONS);
  }

  /** Resolves when the model is ready. @throws the cluster's error, or `PB_GATEWAY_UNAVAILABLE` */
  async deploy(
    spec: DeploymentSpec,
    onProgress: (progress: DeployProgress) => void,
    /** From now on its outcome may be unknown. */
    onSent: () => void = () => undefined,
  ): Promise<ActualDeployment> {
    for (let tries = 1; ; tries++) {
      await this.reach();
      onSent();
      const outcome = await this.deployOnce(spec, onProgress).catch((cause: unknown) => {
        if (this.closed || tries === DEPLOY_TRIES || !isPatchbayError(cause, 'PB_GATEWAY_UNAVAILABLE')) throw cause;
        return undefined;
      });
      if (outcome?.kind === 'failed') throw outcome.error;
      if (outcome?.kind === 'ready') return outcome.deployment;
    }
  }

  /** Resolves to whether there was such a deployment. */
  async undeploy(name: string): Promise<boolean> {
    await this.reach();
    const { existed } = await this.unary<{ existed: boolean }>(UNDEPLOY_MS, (metadata, options, done) =>
      this.client.undeploy({ name }, metadata, options, done),
    );
    return existed;
  }

  /** @throws `PB_GATEWAY_UNAVAILABLE` */
  async describe(): Promise<Cluster> {
    const { clusterJson } = await this.unary<{ clusterJson: string }>(CALL_MS, (metadata, options, done) =>
      this.client.describeCluster({}, metadata, options, done),
    );
    return cluster.parse(JSON.parse(clusterJson));
  }

  async health(): Promise<GatewayHealth> {
    return this.unary<GatewayHealth>(CALL_MS, (metadata, options, done) =>
      this.client.health({}, metadata, options, done),
    );
  }

  /** One request to a replica's supervisor; resolves when its answers have ended. */
  async executeVia(
    request: ExecuteViaRequest,
    onMessage: (message: ExecuteResponse) => Promise<unknown> | undefined,
  ): Promise<void> {
    await this.reach();
    await this.read(this.client.executeVia(request, bearer(this.token)), onMessage);
  }

  /** Follows the deployments until `close`, through any number of breaks. */
  async watch(watcher: DeploymentsWatcher): Promise<void> {
    while (!this.closed) {
      try {
        await this.reach();
        const call = this.client.watchDeployments({}, bearer(this.token));
        this.watching = call;
        await this.read(call, ({ deployments }) => {
          watcher.onDeployments(deployments.map(readDeployment));
          return undefined;
        });
        watcher.onAway(new Error('the gateway ended the watch'));
      } catch (cause) {
        if (!this.closed) watcher.onAway(cause);
      }
      if (!this.closed) await this.pause();
    }
  }

  close(): void {
    this.closed = true;
    this.watching?.cancel();
    this.wake?.();
    this.client.close();
  }

  /** The last word of one call. @throws when the call breaks before that */
  private async deployOnce(
    spec: DeploymentSpec,
    onProgress: (progress: DeployProgress) => void,
  ): Promise<Exclude<DeployUpdate, { kind: 'progress' }>> {
    const call = this.client.deploy(deployRequest(spec, this.artifactUrl()), bearer(this.token));
    let last: Exclude<DeployUpdate, { kind: 'progress' }> | undefined;
    await this.read(call, (message) => {
      const update = readDeployUpdate(message);
      if (update?.kind === 'progress') onProgress(update.progress);
      else last = update;
      return undefined;
    });
    return last ?? { kind: 'failed', error: this.unavailable('it ended the deployment without an outcome') };
  }

  private async reach(): Promise<void> {
    if (!(await dial(this.client, DIAL_MS))) throw this.unavailable('no connection');
  }

  private read<T>(
    call: ClientReadableStream<T>,
    onMessage: (message: T) => Promise<unknown> | undefined,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (cause: unknown): void => reject(this.failure(cause));
      call.on('data', (message: T) => {
        try {
          const hold = onMessage(message);
          if (hold === undefined) return;
          call.pause();
          void hold.finally(() => call.resume());
        } catch (cause) {
          reject(toPatchbayError(cause));
          call.cancel();
        }
      });
      call.on('error', fail);
      call.on('end', resolve);
    });
  }

  private unary<T>(
    limitMs: number,
    call: (
      metadata: ReturnType<typeof bearer>,
      options: { deadline: number },
      done: (cause: ServiceError | null, response: T) => void,
    ) => unknown,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      call(bearer(this.token), { deadline: Date.now() + limitMs }, (cause, response) =>
        cause === null ? resolve(response) : reject(this.failure(cause)),
      );
    });
  }

  private failure(cause: unknown): PatchbayError {
    return sentError(cause) ?? this.unavailable(reasonOf(cause));
  }

  private unavailable(reason: string): PatchbayError {
    return error('PB_GATEWAY_UNAVAILABLE', { address: this.address, reason });
  }

  private pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, WATCH_PAUSE_MS);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
