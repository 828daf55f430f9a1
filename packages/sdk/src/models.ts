/** Deployments of models: list, put on the cluster, take off. @module */
import {
  PatchbayError,
  deployment,
  deploymentName,
  error,
  nearest,
  type Deployment,
  type DeploymentSpec,
} from '@patchbay/protocol';
import { z } from 'zod';
import type { HttpClient } from './transport/http.js';

interface Options {
  readonly signal?: AbortSignal | undefined;
}

/** What a deployment is doing. */
export interface DeployProgress {
  readonly phase: string;
  readonly message: string;
}

export interface DeployOptions extends Options {
  /** Called with every message. */
  readonly onProgress?: ((message: string) => void) | undefined;
}

export interface DrainOptions extends Options {
  /** False: give them out again. @defaultValue true */
  readonly draining?: boolean | undefined;
}

const queueCounts = z.object({ waiting: z.int(), running: z.int(), draining: z.boolean() });
/** Jobs of a deployment; `draining`: none is given out. */
export interface QueueCounts {
  readonly waiting: number;
  readonly running: number;
  readonly draining: boolean;
}

/** A deployment: only `model` is needed. */
export type DeploymentRequest = { readonly [K in keyof DeploymentSpec]?: DeploymentSpec[K] | undefined } & {
  readonly model: string;
};

const line = z.discriminatedUnion('type', [
  z.object({ type: z.literal('progress'), phase: z.string(), message: z.string() }),
  z.object({ type: z.literal('ready'), deployment }),
  z.object({ type: z.literal('failed'), error: z.unknown() }),
]);
type Line = z.output<typeof line>;

const listSchema = z.object({ models: z.array(deployment) });

export class Models {
  constructor(private readonly http: HttpClient) {}

  /** Every deployment. @throws `PB_STACK_NOT_RUNNING`, `PB_ORCHESTRATOR_UNAVAILABLE`, `PB_UNAUTHORIZED` */
  async list({ signal }: Options = {}): Promise<Deployment[]> {
    return listSchema.parse(await this.http.json('/api/models', { signal })).models;
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
    const answer = await this.http.json(`/api/models/${encodeURIComponent(name)}`, { method: 'DELETE', signal });
    return z.object({ existed: z.boolean() }).parse(answer);
  }

  /**
   * Stops giving out a deployment's jobs, or goes on with it; what runs goes on, what comes waits.
   * Resolves at once with what waits and runs. @throws `PB_MODEL_NOT_FOUND`, `PB_OPERATOR_ONLY`
   */
  async drain(name: string, { draining = true, signal }: DrainOptions = {}): Promise<QueueCounts> {
    const answer = await this.http.json(`/api/queues/${encodeURIComponent(name)}/drain`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ draining }),
      signal,
    });
    return queueCounts.parse(answer);
  }

  async *#lines(spec: DeploymentRequest, { signal }: DeployOptions): AsyncGenerator<Line, void, undefined> {
    const name = spec.name ?? deploymentName(spec.model);
    const headers = { 'content-type': 'application/json' };
    const response = await this.http.request('/api/models', {
      method: 'POST',
      headers,
      body: JSON.stringify({ ...spec, name }),
      signal,
    });
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { done, value } = await this.http.read(signal, () => reader.read());
      const lines = (rest + (value ?? '')).split('\n');
      rest = done ? '' : lines.pop()!;
      for (const text of lines) if (text.trim() !== '') yield line.parse(JSON.parse(text));
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
  constructor(lines: AsyncIterable<Line>, onProgress: ((message: string) => void) | undefined) {
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

  async #run(lines: AsyncIterable<Line>, onProgress: ((message: string) => void) | undefined): Promise<Deployment> {
    for await (const entry of lines) {
      if (entry.type === 'ready') return entry.deployment;
      if (entry.type === 'failed') throw PatchbayError.fromJson(entry.error);
      this.#progress.push({ phase: entry.phase, message: entry.message });
      onProgress?.(entry.message);
      this.#changed();
      this.#change = new Promise((resolve) => (this.#changed = resolve));
    }
    throw error('PB_INTERNAL', { reason: 'the orchestrator ended the deployment without an outcome' });
  }
}
