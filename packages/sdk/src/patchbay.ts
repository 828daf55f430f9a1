/** The client: settings, connections that open when they are needed, and the parts that use them. @module */
import { parseJobDocument } from '@patchbay/protocol';
import type { DrainState } from '@patchbay/protocol/http';
import { Artifacts } from './artifacts.js';
import { buildJob, type JobSpec } from './jobs/job-builder.js';
import { JobRecords } from './jobs/job-records.js';
import { Jobs } from './jobs/jobs.js';
import { Submitter } from './jobs/submit.js';
import { Models } from './models.js';
import { ClientConfig, type PatchbayOptions } from './options.js';
import { EventFollower } from './transport/event-follower.js';
import { HttpClient } from './transport/http.js';
import { RedisConnection } from './transport/redis-connection.js';
import { callRoute } from './transport/routes.js';

/** A Redis that answers nothing for this long counts as lost; longer than the follower's blocking reads. */
const SILENCE_MS = 15_000;

/**
 * Client of a Patchbay stack. Cheap to make: nothing is opened before the first call. One per script is enough.
 * @example
 * await using pb = new Patchbay();
 * const job = await pb.jobs.submit({ model: 'tiny-facts', runs: [{ inputs: { text: ['Once'] } }] });
 * const result = await job.result();
 */
export class Patchbay implements AsyncDisposable {
  readonly jobs: Jobs;
  readonly artifacts: Artifacts;
  readonly models: Models;
  readonly #http: HttpClient;
  readonly #connections: readonly RedisConnection[];

  /** @throws `PB_CONFIG_INVALID` */
  constructor(options: PatchbayOptions = {}) {
    const config = new ClientConfig(options);
    const { connectTimeoutMs, submitTimeoutMs, reconnectTimeoutMs, eagerBytes } = config.values;
    const explain = () => config.explain();
    const connection = { locate: () => config.redisUrl(), explain, connectTimeoutMs, silenceMs: SILENCE_MS };
    const commands = new RedisConnection('patchbay-sdk', connection);
    const blocking = new RedisConnection('patchbay-sdk-events', connection);
    this.#connections = [commands, blocking];
    this.#http = new HttpClient(() => config.http(), explain);
    this.artifacts = new Artifacts(this.#http);
    this.models = new Models(this.#http);
    const follower = new EventFollower({ blocking, commands, patienceMs: reconnectTimeoutMs });
    const services = { records: new JobRecords(commands), follower, artifacts: this.artifacts, eagerBytes };
    this.jobs = new Jobs(services, new Submitter(commands), this.#http, submitTimeoutMs);
  }

  /**
   * All checks of a job that need no run: the document here, names and shapes against the deployment.
   * @throws what `jobs.submit` would throw, and `PB_HOOK_MODULE_NOT_FOUND`, `PB_SHAPE_MISMATCH`, ...
   */
  async validate(
    spec: JobSpec,
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<{ warnings: string[] }> {
    const { document } = buildJob(spec);
    parseJobDocument(document);
    return callRoute(this.#http, 'validate', { body: document, signal });
  }

  /**
   * Makes the orchestrator take no more jobs, end those that run, and leave; others of the installation go on, and a keeper
   * starts a new one. Resolves at once with how many run. @throws `PB_OPERATOR_ONLY`, `PB_ORCHESTRATOR_UNAVAILABLE`
   */
  async drain({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<DrainState> {
    return callRoute(this.#http, 'drainOrchestrator', { signal });
  }

  /** Whether the orchestrator that answers is about to leave. @throws `PB_ORCHESTRATOR_UNAVAILABLE` */
  async isDraining({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<boolean> {
    return (await callRoute(this.#http, 'health', { signal })).parts.orchestrator.draining;
  }

  /** Closes the connections; waits that are under way end with `PB_ABORTED`. Jobs run on. Closing twice is fine. */
  async close(): Promise<void> {
    for (const connection of this.#connections) connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
