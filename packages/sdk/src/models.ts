/** Deployments of models: list, put on the cluster, take off. @module */
import {
  PatchbayError,
  deploymentName,
  error,
  nearest,
  type Deployment,
  type DeploymentSpec,
} from '@patchbay/protocol';
import type { DeployLine, QueueCounts } from '@patchbay/protocol/http';
import type { HttpClient } from './transport/http.js';
import { callRoute, openRoute, readAnswer } from './transport/routes.js';

interface Options {
  readonly signal?: AbortSignal | undefined;
}

/** What a deployment is doing: `fraction`, from 0 to 1 of the phase, where that is known. */
export type DeployProgress = Omit<Extract<DeployLine, { type: 'progress' }>, 'type'>;

export interface DeployOptions extends Options {
  /** Called with every message, and with how far its phase is. */
  readonly onProgress?: ((message: string, progress: DeployProgress) => void) | undefined;
}

export interface DrainOptions extends Options {
  /** False: give them out again. @defaultValue true */
  readonly draining?: boolean | undefined;
}

/** A deployment: only `model` is needed. */
export type DeploymentRequest = { readonly [K in keyof DeploymentSpec]?: DeploymentSpec[K] | undefined } & {
  readonly model: string;
};

export class Models {
  constructor(private readonly http: HttpClient) {}

  /** Every deployment. @throws `PB_STACK_NOT_RUNNING`, `PB_ORCHESTRATOR_UNAVAILABLE`, `PB_UNAUTHORIZED` */
  async list({ signal }: Options = {}): Promise<Deployment[]> {
    return (await callRoute(this.http, 'models', { signal })).models;
  }

  /** One deployment, with its modules, parameters and layouts in `description`. @throws `PB_MODEL_NOT_FOUND` */
  async get(name: string, options: Options = {}): Promise<Deployment> {
    const all = await this.list(options);
    const found = all.find(({ spec }) => spec.name === name);
    if (found !== undefined) return found;
    const near = nearest(
      name,
      all.map(({ spec }) => spec.name),
    )[0];
    throw error('PB_MODEL_NOT_FOUND', { model: name }, near === undefined ? {} : { hint: `Did you mean "${near}"?` });
  }

  /**
   * Puts a model on the cluster. Awaited it is the deployment, when it is ready; in `for await` its progress.
   * The request starts at once; aborting it ends the wait.
   * @throws `PB_MODEL_LOAD_FAILED`, `PB_MODEL_EXISTS`, `PB_PLACEMENT_FAILED`, `PB_MESH_UNSUPPORTED`, `PB_NOT_DIVISIBLE`, ...
   * @example for await (const { message } of pb.models.deploy({ model: 'tiny-facts', name: 'tiny-facts', tp: 2 })) console.log(message);
   */
  deploy(spec: DeploymentRequest, options: DeployOptions = {}): Deploying {
    return new Deploying(this.#lines(spec, options), options.onProgress);
  }

  /** Takes a deployment off the cluster; its jobs end. */
  async undeploy(name: string, { signal }: Options = {}): Promise<{ existed: boolean }> {
    return callRoute(this.http, 'undeploy', { params: { name }, signal });
  }

  /**
   * Stops giving out a deployment's jobs, or goes on with it; what runs goes on, what comes waits.
   * Resolves at once with what waits and runs. @throws `PB_MODEL_NOT_FOUND`, `PB_OPERATOR_ONLY`
   */
  async drain(name: string, { draining = true, signal }: DrainOptions = {}): Promise<QueueCounts> {
    return callRoute(this.http, 'drain', { params: { name }, body: { draining }, signal });
  }

  async *#lines(spec: DeploymentRequest, { signal }: DeployOptions): AsyncGenerator<DeployLine, void, undefined> {
    const name = spec.name ?? deploymentName(spec.model);
    const response = await openRoute(this.http, 'deploy', { body: { ...spec, name }, signal });
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { done, value } = await this.http.read(signal, () => reader.read());
      const lines = (rest + (value ?? '')).split('\n');
      rest = done ? '' : lines.pop()!;
      for (const text of lines) if (text.trim() !== '') yield readAnswer('deploy', JSON.parse(text), response.url);
      if (done) return;
    }
  }
}

/** A deployment on its way. */
export class Deploying implements PromiseLike<Deployment>, AsyncIterable<DeployProgress> {
  readonly #progress: DeployProgress[] = [];
  readonly #done: Promise<Deployment>;
  #change: Promise<void>;
  #changed: () => void = () => undefined;

  /** @internal */
  constructor(lines: AsyncIterable<DeployLine>, onProgress: DeployOptions['onProgress']) {
    this.#change = new Promise((resolve) => (this.#changed = resolve));
    this.#done = this.#run(lines, onProgress);
    this.#done.catch(() => undefined); // whoever awaits or iterates gets it
  }

  then<A = Deployment, B = never>(
    fulfilled?: ((ready: Deployment) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#done.then(fulfilled, rejected);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<DeployProgress, void, undefined> {
    for (let index = 0; ; index++) {
      while (this.#progress[index] === undefined) {
        const ended = await Promise.race([this.#done.then(() => true), this.#change.then(() => false)]);
        if (ended && this.#progress[index] === undefined) return;
      }
      yield this.#progress[index]!;
    }
  }

  async #run(lines: AsyncIterable<DeployLine>, onProgress: DeployOptions['onProgress']): Promise<Deployment> {
    for await (const entry of lines) {
      if (entry.type === 'ready') return entry.deployment;
      if (entry.type === 'failed') throw PatchbayError.fromJson(entry.error);
      const { type: _, ...progress } = entry;
      this.#progress.push(progress);
      onProgress?.(progress.message, progress);
      this.#changed();
      this.#change = new Promise((resolve) => (this.#changed = resolve));
    }
    throw error('PB_INTERNAL', { reason: 'the orchestrator ended the deployment without an outcome' });
  }
}
