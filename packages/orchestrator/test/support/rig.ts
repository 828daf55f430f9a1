/** An orchestrator between a real Redis and a fake cluster, and what a test asks of them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isTerminal, keys, type JobEventBody, type JobState, type JobStatus } from '@patchbay/protocol';
import { Redis } from 'ioredis';
import { checkAnswer } from '../../../../tests/support/http-contract.js';
import { startRedis, type TestRedis } from '../../../../tests/support/redis.js';
import { startOrchestrator, type Orchestrator, type OrchestratorOptions } from '../../src/index.js';
import { FakeCluster } from './fake-cluster.js';

export const TOKEN = 'the-token';
export const LIMIT_MS = 15_000;

export interface Answer<T> {
  readonly status: number;
  readonly body: T;
}

export class Rig {
  readonly cluster = new FakeCluster();
  readonly home = mkdtempSync(join(tmpdir(), 'pb-orch-'));
  private readonly orchestrators: Orchestrator[] = [];

  private constructor(
    readonly redis: TestRedis,
    readonly client: Redis,
    private readonly options: OrchestratorOptions,
  ) {}

  static async start(options: OrchestratorOptions = {}): Promise<Rig> {
    const redis = await startRedis();
    const client = new Redis({ path: redis.url.slice('unix://'.length), maxRetriesPerRequest: null });
    client.on('error', () => undefined); // a test may end Redis
    const rig = new Rig(redis, client, options);
    await rig.cluster.listen();
    await rig.orchestrate();
    return rig;
  }

  /** Starts an orchestrator, or another one. */
  async orchestrate(options: OrchestratorOptions = {}): Promise<Orchestrator> {
    const orchestrator = await startOrchestrator({
      redisUrl: this.redis.url,
      httpPort: 0,
      token: TOKEN,
      gateway: this.cluster.address,
      gatewayToken: 'gateway-token',
      home: this.home,
      logLevel: 'silent',
      ...this.options,
      ...options,
    });
    this.orchestrators.push(orchestrator);
    return orchestrator;
  }

  get http(): string {
    return this.orchestrators.at(-1)!.http;
  }

  get orchestrator(): Orchestrator {
    return this.orchestrators.at(-1)!;
  }

  async close(): Promise<void> {
    await Promise.all(this.orchestrators.map((one) => one.close()));
    this.cluster.die();
    this.client.disconnect();
    await this.redis.close();
    rmSync(this.home, { recursive: true, force: true });
  }

  fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = { authorization: `Bearer ${TOKEN}`, ...(init.headers as Record<string, string> | undefined) };
    return fetch(`${this.http}${path}`, { signal: AbortSignal.timeout(LIMIT_MS), ...init, headers });
  }

  async ask<T = Record<string, unknown>>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    const content =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const response = await this.fetch(path, { method, ...content });
    const text = await response.text();
    checkAnswer(method, path, response.status, response.headers.get('content-type') ?? '', text);
    return { status: response.status, body: JSON.parse(text) as T };
  }

  /** Deploys and returns the last line of the stream. */
  async deploy(name: string, more: object = {}): Promise<Record<string, unknown>> {
    const body = JSON.stringify({ name, model: `/models/${name}`, ...more });
    const response = await this.fetch('/api/models', {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
    });
    const text = await response.text();
    checkAnswer('POST', '/api/models', response.status, response.headers.get('content-type') ?? '', text);
    const lines = text.trim().split('\n');
    return JSON.parse(lines.at(-1)!) as Record<string, unknown>;
  }

  async submit(model: string, more: object = {}): Promise<string> {
    const document = { version: 1, model, runs: [{ inputs: { tokenIds: [[1, 2]] } }], ...more };
    const { status, body } = await this.ask<{ jobId: string }>('POST', '/api/jobs', document);
    if (status !== 201) throw new Error(`not submitted: ${JSON.stringify(body)}`);
    return body.jobId;
  }

  async status(jobId: string): Promise<JobStatus> {
    return (await this.ask<JobStatus>('GET', `/api/jobs/${jobId}`)).body;
  }

  /** As after a crash of its holder: the lease ends, and another consumer finds the job stalled. */
  async loseLease(): Promise<void> {
    const lock = (await this.client.keys('patchbay:queue:*:lock'))[0];
    if (lock === undefined) throw new Error('no job is held');
    await this.client.set(lock, 'somebody else', 'PX', 1);
  }

  /** Reads the event log until the state comes; a final state that is another one is told instead. */
  async until(jobId: string, state: JobState): Promise<JobStatus> {
    const reader = this.client.duplicate();
    reader.on('error', () => undefined);
    const end = Date.now() + LIMIT_MS;
    let cursor = '0';
    try {
      while (Date.now() < end) {
        const news = await reader.xread('BLOCK', 500, 'STREAMS', keys.events(jobId), cursor);
        for (const [id, fields] of news?.[0]?.[1] ?? []) {
          cursor = id;
          const event = JSON.parse(fields[1]!) as JobEventBody;
          if (event.type !== 'state') continue;
          if (event.state === state) return await this.status(jobId);
          if (isTerminal(event.state)) throw new Error(`job ended ${event.state}: ${JSON.stringify(event)}`);
        }
      }
      throw new Error(`job ${jobId} did not become ${state}: ${JSON.stringify(await this.status(jobId))}`);
    } finally {
      reader.disconnect();
    }
  }

  async events(jobId: string): Promise<JobEventBody[]> {
    const rows = await this.client.xrange(keys.events(jobId), '-', '+');
    return rows.map(([, fields]) => JSON.parse(fields[1]!) as JobEventBody);
  }
}
