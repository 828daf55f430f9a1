/**
 * Stands in for everything behind the SDK: a BullMQ consumer that moves jobs through the real Lua transitions as a script
 * says, and the HTTP routes that the SDK asks. Redis is real.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import {
  QUEUE_PREFIX,
  beginCall,
  transitionCall,
  error,
  keys,
  queueName,
  type ErrorJson,
  type GangEvent,
  type JobState,
} from '@patchbay/protocol';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';

export const MODEL = 'scripted';

/** What a script can do with its job. */
export interface Step {
  readonly jobId: string;
  readonly document: Record<string, unknown>;
  readonly to: (state: JobState, more?: { reason?: string; result?: object; error?: ErrorJson }) => Promise<unknown>;
  readonly emit: (event: GangEvent) => Promise<unknown>;
  /** Resolves when somebody asked for the job's end. */
  cancelled(): Promise<string>;
}

export type Script = (step: Step) => Promise<void>;

/** A result as a gang gives it. */
export function resultOf(jobId: string, more: object = {}): object {
  return { jobId, state: 'completed', attempt: 1, model: MODEL, error: null, ...more };
}

/** Runs and completes. */
export const completes =
  (more: object = {}): Script =>
  async ({ jobId, to }) => {
    await to('running');
    await to('completed', { result: resultOf(jobId, more) });
  };

const path = (url: string): string => url.replace(/^unix:\/\//, '');

export class ScriptedConsumer {
  readonly redis: Redis;
  readonly #worker: Worker;
  /** What the next jobs do. */
  script: Script = completes();
  /** Ids in the order in which they arrived. */
  readonly seen: string[] = [];
  /** What a script threw; a test looks at it. */
  readonly problems: unknown[] = [];
  readonly #subscribers: Redis[] = [];

  constructor(url: string) {
    this.redis = new Redis(path(url), { maxRetriesPerRequest: null });
    this.redis.on('error', () => undefined);
    this.#worker = new Worker(queueName(MODEL), async (job) => this.#run((job.data as { jobId: string }).jobId), {
      connection: this.redis,
      prefix: QUEUE_PREFIX,
      concurrency: 64,
      drainDelay: 1,
    });
    this.#worker.on('error', () => undefined);
  }

  async ready(): Promise<void> {
    await this.redis.hset(keys.deployments, MODEL, '{}');
    await this.#worker.waitUntilReady();
  }

  async close(): Promise<void> {
    for (const subscriber of this.#subscribers) subscriber.disconnect();
    await this.#worker.close(true);
    this.redis.disconnect();
  }

  async #run(jobId: string): Promise<void> {
    this.seen.push(jobId);
    const [begun, attempt] = (await this.redis.eval(...beginCall(jobId, Date.now()))) as [string, number];
    if (begun !== 'ok') return;
    const events = keys.events(jobId);
    const to: Step['to'] = async (state, { reason = '', result, error: failure } = {}) => {
      const [verdict] = (await this.redis.eval(
        ...transitionCall(jobId, state, attempt, Date.now(), {
          reason,
          ...(result !== undefined && { result: JSON.stringify(result) }),
          ...(failure !== undefined && { error: failure }),
        }),
      )) as [string];
      if (verdict !== 'ok') throw new Error(`${state}: ${String(verdict)}`);
      return verdict;
    };
    const emit: Step['emit'] = (event) =>
      this.redis.xadd(events, '*', 'e', JSON.stringify({ at: Date.now(), attempt, ...event }));
    const text = (await this.redis.hget(keys.job(jobId), 'document')) ?? '';
    try {
      await this.script({
        jobId,
        document: JSON.parse(text) as Record<string, unknown>,
        to,
        emit,
        cancelled: () => this.#cancelled(jobId),
      });
    } catch (problem) {
      this.problems.push(problem);
    }
  }

  async #cancelled(jobId: string): Promise<string> {
    const subscriber = this.redis.duplicate();
    this.#subscribers.push(subscriber);
    subscriber.on('error', () => undefined);
    const message = new Promise<string>((resolve) => {
      subscriber.on('message', (_channel, text) => {
        const told = JSON.parse(text) as { jobId: string; reason: string };
        if (told.jobId === jobId) resolve(told.reason);
      });
    });
    await subscriber.subscribe(keys.cancelChannel);
    const flag = await this.redis.hget(keys.job(jobId), 'cancelRequested');
    const reason = flag ?? (await message);
    subscriber.disconnect();
    return reason;
  }
}

/** The routes of the orchestrator that the SDK uses, with their content in memory. */
export class ScriptedHttp {
  readonly token = 'secret';
  readonly artifacts = new Map<string, Buffer>();
  readonly requests: string[] = [];
  /** Answers of other routes: `POST /api/models` -> status and body. */
  readonly routes = new Map<string, (body: string, url: URL) => { status: number; body: string }>();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  static async start(): Promise<ScriptedHttp> {
    const http = new ScriptedHttp();
    await new Promise<void>((resolve) => http.#server.listen(0, '127.0.0.1', resolve));
    return http;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  put(content: Uint8Array): { sha256: string; bytes: number } {
    const sha256 = createHash('sha256').update(content).digest('hex');
    this.artifacts.set(sha256, Buffer.from(content));
    return { sha256, bytes: content.byteLength };
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url!, this.url);
    this.requests.push(
      `${request.method} ${url.pathname}${request.headers.range === undefined ? '' : ` ${request.headers.range}`}`,
    );
    const fail = (problem: ReturnType<typeof error>): void =>
      void response.writeHead(problem.status).end(JSON.stringify(problem));
    if (request.headers.authorization !== `Bearer ${this.token}`) return fail(error('PB_UNAUTHORIZED', {}));
    const body = await buffer(request);
    const sha256 = /^\/api\/artifacts\/(\w+)$/.exec(url.pathname)?.[1];
    if (sha256 !== undefined) return this.#artifact(request, response, sha256, body, fail);
    const route = this.routes.get(`${request.method} ${url.pathname}`);
    if (route === undefined) return fail(error('PB_NOT_FOUND', { url: url.pathname }));
    const answer = route(body.toString(), url);
    response.writeHead(answer.status).end(answer.body);
  }

  #artifact(
    request: IncomingMessage,
    response: ServerResponse,
    sha256: string,
    body: Buffer,
    fail: (problem: ReturnType<typeof error>) => void,
  ): void {
    if (request.method === 'PUT') {
      this.artifacts.set(sha256, body);
      return void response.writeHead(201).end();
    }
    const content = this.artifacts.get(sha256);
    if (content === undefined) return fail(error('PB_ARTIFACT_NOT_FOUND', { artifact: sha256 }));
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const part = from === undefined ? content : content.subarray(Number(from), Number(to) + 1);
    response
      .writeHead(from === undefined ? 200 : 206, { 'content-length': part.byteLength })
      .end(request.method === 'HEAD' ? undefined : part);
  }
}
