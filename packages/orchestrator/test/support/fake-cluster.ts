/** A gRPC server that plays gateway and gang for unit tests: scripted by the test, remembers what it was asked. */
import {
  Metadata,
  Server,
  ServerCredentials,
  status,
  type ServerDuplexStream,
  type ServerWritableStream,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { ErrorJson } from '@patchbay/protocol';
import {
  GangService,
  GatewayService,
  ReplicaState,
  type Deployment,
  type DeployRequest,
  type DeployResponse,
  type ExecuteRequest,
  type ExecuteResponse,
  type ExecuteViaRequest,
  type JobKey,
  type WatchDeploymentsRequest,
  type WatchDeploymentsResponse,
} from '@patchbay/protocol/worker';

type Update = NonNullable<ExecuteResponse['update']>;

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

const NO_SPANS: Buffer = Buffer.alloc(0);

/** What a gang tells in any case. */
const EMPTY = { activations: [], saveCtx: {}, parameters: [], hooks: [], warnings: [], files: {} };

/** The gang's side of one start. */
export class FakeJob {
  cancelReason: string | undefined;

  constructor(
    readonly key: JobKey,
    readonly document: { model: string; runs: unknown[] },
    readonly ticket: string,
    readonly artifactUrl: string,
    readonly deadlineUnixMs: number,
    readonly traceparent: string,
    /** By training run, the checkpoint that it is to go on from. */
    readonly resume: Record<string, { sha256: string; step: number }>,
    /** Sends on the stream that the start came from. */
    readonly send: (update: Update, spansJson?: Buffer) => void,
  ) {}

  private told: Buffer = NO_SPANS;

  /** What goes with its end. */
  spans(tree: object): void {
    this.told = json(tree);
  }

  running(): void {
    this.send({ $case: 'running', value: {} });
  }

  event(event: object): void {
    this.send({ $case: 'eventJson', value: json(event) });
  }

  done(result: object = { runs: {}, timings: { forwardMs: 1 } }): void {
    this.send({ $case: 'doneJson', value: json({ ...EMPTY, ...result }) }, this.told);
  }

  failed(error: Partial<ErrorJson> & Pick<ErrorJson, 'code'>): void {
    this.send(
      { $case: 'failedJson', value: json({ message: 'told by the gang', retryable: false, ...error }) },
      this.told,
    );
  }
}

export interface Script {
  start(job: FakeJob): void;
  cancel(job: FakeJob, reason: string): void;
  validate(document: unknown): { warnings: string[] } | ErrorJson;
  deploy(request: DeployRequest, cluster: FakeCluster): AsyncIterable<DeployResponse>;
}

async function* deployReady(request: DeployRequest, cluster: FakeCluster): AsyncGenerator<DeployResponse> {
  yield { event: { $case: 'progressJson', value: JSON.stringify({ phase: 'load', message: 'loading' }) } };
  const deployment = cluster.describe(request.name, request.replicas);
  cluster.deployments.set(request.name, deployment);
  yield { event: { $case: 'ready', value: deployment } };
  cluster.push();
}

const DEFAULT: Script = {
  start: (job) => {
    job.running();
    job.done();
  },
  cancel: (job, reason) => job.failed({ code: 'PB_JOB_CANCELLED', message: reason }),
  validate: () => ({ warnings: [] }),
  deploy: deployReady,
};

type GangStream = ServerDuplexStream<ExecuteRequest, ExecuteResponse>;

const NODE = { id: 'n1', address: '127.0.0.1', alive: true, resources: { CPU: 2 }, used: { CPU: 1 } };

export class FakeCluster {
  readonly script: Script = { ...DEFAULT };
  readonly deployments = new Map<string, Deployment>();
  readonly starts: FakeJob[] = [];
  readonly deploys: DeployRequest[] = [];
  readonly undeploys: string[] = [];
  /** `authorization` of every call, by method. */
  readonly tokens: { readonly call: string; readonly authorization: string | undefined }[] = [];
  epoch = 1;
  port = 0;
  /** Where replicas say they are; default: here. */
  gangAddress: string | undefined;
  streamsOpened = 0;
  viaCalls = 0;

  private refuseWatch = false;
  private server = new Server();
  private readonly streams = new Set<GangStream>();
  private readonly watchers = new Set<ServerWritableStream<WatchDeploymentsRequest, WatchDeploymentsResponse>>();
  private readonly wakers: (() => void)[] = [];

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  async listen(): Promise<void> {
    this.server = new Server();
    this.server.addService(GatewayService, this.gateway());
    this.server.addService(GangService, { execute: (call: GangStream) => this.execute(call) });
    this.port = await new Promise((resolve, reject) => {
      this.server.bindAsync(this.address, ServerCredentials.createInsecure(), (cause, port) =>
        cause === null ? resolve(port) : reject(cause),
      );
    });
  }

  /** The process dies: every stream breaks. `listen` brings it back at the same port. */
  die(): void {
    this.watchers.clear();
    this.streams.clear();
    this.server.forceShutdown();
  }

  /** Only the streams to the gangs break. */
  breakStreams(code: status = status.UNAVAILABLE, details = 'broken by the test'): void {
    for (const stream of this.streams) stream.emit('error', { code, details });
    this.streams.clear();
  }

  /** Only the watches break, and are refused from then on. */
  breakWatch(): void {
    this.refuseWatch = true;
    for (const watcher of this.watchers)
      watcher.emit('error', { code: status.UNAVAILABLE, details: 'broken by the test' });
    this.watchers.clear();
  }

  describe(
    name: string,
    replicas = 1,
    state: ReplicaState = ReplicaState.REPLICA_STATE_READY,
    reasonJson = '',
  ): Deployment {
    const one = (index: number): Deployment['replicas'][number] => ({
      index,
      epoch: this.epoch,
      state,
      address: this.gangAddress ?? this.address,
      token: `gang-${this.epoch}`,
      reasonJson,
      ranksJson: JSON.stringify([{ rank: 0, node: 'here', pid: 1 }]),
    });
    return { name, replicas: Array.from({ length: replicas }, (_, index) => one(index)), descriptionJson: '' };
  }

  /** Tells the watchers what there is. */
  push(): void {
    for (const watcher of this.watchers) watcher.write({ deployments: [...this.deployments.values()] });
  }

  /** Waits for something the orchestrator will do here. */
  async until(holds: () => boolean, what: string, limitMs = 30_000): Promise<void> {
    const end = Date.now() + limitMs;
    while (!holds()) {
      const left = end - Date.now();
      if (left <= 0) throw new Error(`the cluster waited in vain: ${what}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(left, 50));
        this.wakers.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  private wake(): void {
    for (const wake of this.wakers.splice(0)) wake();
  }

  private note(call: string, metadata: Metadata): void {
    this.tokens.push({ call, authorization: metadata.get('authorization')[0]?.toString() });
  }

  private gateway(): UntypedServiceImplementation {
    return {
      describeCluster: (_call: unknown, done: (cause: null, response: object) => void) =>
        done(null, { clusterJson: JSON.stringify({ nodes: [NODE], versions: { ray: '2.58.0' } }) }),
      health: (_call: unknown, done: (cause: null, response: object) => void) =>
        done(null, { protocolVersion: '1', rayConnected: true, reason: '' }),
      deploy: (call: ServerWritableStream<DeployRequest, DeployResponse>) => void this.deploy(call),
      undeploy: (call: { request: { name: string } }, done: (cause: null, response: object) => void) => {
        this.undeploys.push(call.request.name);
        const existed = this.deployments.delete(call.request.name);
        this.push();
        done(null, { existed });
      },
      watchDeployments: (call: ServerWritableStream<WatchDeploymentsRequest, WatchDeploymentsResponse>) => {
        this.note('watch', call.metadata);
        if (this.refuseWatch) return void call.emit('error', { code: status.UNAVAILABLE, details: 'away' });
        this.watchers.add(call);
        call.on('cancelled', () => this.watchers.delete(call));
        call.write({ deployments: [...this.deployments.values()] });
      },
      executeVia: (call: ServerWritableStream<ExecuteViaRequest, ExecuteResponse>) => {
        this.viaCalls += 1;
        const send = (response: ExecuteResponse): void => {
          call.write(response);
          const over = response.update?.$case === 'doneJson' || response.update?.$case === 'failedJson';
          if (over) call.end();
        };
        this.receive(call.request.request!, send);
        if (call.request.request!.command?.$case === 'cancel') call.end();
      },
    };
  }

  private async deploy(call: ServerWritableStream<DeployRequest, DeployResponse>): Promise<void> {
    this.deploys.push(call.request);
    this.wake();
    try {
      for await (const response of this.script.deploy(call.request, this)) call.write(response);
      call.end();
    } catch (cause) {
      call.emit('error', { code: status.UNAVAILABLE, details: String(cause) });
    }
  }

  private execute(call: GangStream): void {
    this.note('execute', call.metadata);
    if (call.metadata.get('authorization')[0] !== `Bearer gang-${this.epoch}`) {
      return void call.emit('error', { code: status.UNAUTHENTICATED, details: 'the token of another epoch' });
    }
    this.streamsOpened += 1;
    this.streams.add(call);
    call.on('data', (request: ExecuteRequest) => this.receive(request, (response) => void call.write(response)));
    call.on('end', () => call.end());
    call.on('cancelled', () => this.streams.delete(call));
    // as grpc.aio does when it sends the headers at once
    call.sendMetadata(new Metadata());
    this.wake();
  }

  private receive(request: ExecuteRequest, send: (response: ExecuteResponse) => void): void {
    const key = request.key!;
    let seq = request.command?.$case === 'start' ? request.command.value.afterSeq : 0;
    const counted = (update: Update): boolean => update.$case === 'running' || update.$case === 'eventJson';
    const answer = (update: Update, spansJson: Buffer = NO_SPANS): void =>
      send({ key, update, seq: counted(update) ? ++seq : 0, spansJson });
    const { command } = request;
    if (command?.$case === 'start') {
      const { documentJson, ticket, artifactUrl, deadlineUnixMs, traceparent, resumeJson } = command.value;
      const document = JSON.parse(documentJson.toString()) as FakeJob['document'];
      if (key.epoch !== this.epoch) {
        const lost = { code: 'PB_GANG_LOST', message: 'of another epoch', retryable: true };
        return answer({ $case: 'failedJson', value: json(lost) });
      }
      const resume = JSON.parse(resumeJson || '{}') as FakeJob['resume'];
      const job = new FakeJob(key, document, ticket, artifactUrl, deadlineUnixMs, traceparent, resume, answer);
      this.starts.push(job);
      this.script.start(job);
    } else if (command?.$case === 'cancel') {
      const job = this.starts.findLast((one) => one.key.jobId === key.jobId && one.key.attempt === key.attempt);
      if (job !== undefined) {
        job.cancelReason = command.value.reason;
        this.script.cancel(job, command.value.reason);
      }
    } else if (command?.$case === 'validate') {
      const verdict = this.script.validate(JSON.parse(command.value.documentJson.toString()));
      answer({ $case: 'code' in verdict ? 'failedJson' : 'validatedJson', value: json(verdict) });
    }
    this.wake();
  }
}

/** Lets a test answer a start later. */
export function held(cluster: FakeCluster): () => Promise<FakeJob> {
  cluster.script.start = () => undefined;
  let taken = 0;
  return async () => {
    const index = taken++;
    await cluster.until(() => cluster.starts.length > index, `start ${index + 1}`);
    return cluster.starts[index]!;
  };
}
