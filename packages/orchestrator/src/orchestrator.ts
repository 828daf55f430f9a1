/** Wires the parts and takes them apart again in the right order. Not here: the process (main.ts), what a part does. @module */
import type { AddressInfo } from 'node:net';
import { keys, toPatchbayError } from '@patchbay/protocol';
import { openStore } from './artifacts/open-store.js';
import { Promises } from './artifacts/promises.js';
import type { ArtifactStore } from './artifacts/store.js';
import { Tickets } from './artifacts/tickets.js';
import { GangConnection } from './cluster-client/gang.js';
import { Gateway } from './cluster-client/gateway.js';
import { parseConfig, type OrchestratorConfig, type OrchestratorOptions } from './config.js';
import { Health } from './health.js';
import { readSubmitters, type Submitters } from './http/api-keys.js';
import { Auth } from './http/auth.js';
import { createServer } from './http/server.js';
import { CancelBus } from './jobs/cancel-bus.js';
import { Consumer } from './jobs/consumer.js';
import { Drain } from './drain.js';
import { EventLog } from './jobs/event-log.js';
import { JobReader } from './jobs/job-reader.js';
import { JobRecords } from './jobs/job-record.js';
import { Queues } from './jobs/queues.js';
import { Retention } from './jobs/upkeep/retention.js';
import { runJob, type JobParts } from './jobs/run-job.js';
import { Scripts } from './scripts.js';
import { settledWithin } from './jobs/settled-within.js';
import { Sweeper } from './jobs/upkeep/sweep.js';
import { ChangeFeed } from './live/change-feed.js';
import { JobStats } from './live/job-stats.js';
import { QueueView } from './live/queue-view.js';
import { createLogger } from './log.js';
import { Metrics } from './metrics.js';
import { Controller, type ModelUsers } from './placement/controller.js';
import type { ConnectGang } from './placement/deployed-model.js';
import { Registry } from './placement/registry.js';
import { RedisConnections, type Redis } from './redis.js';
import { openTracer, type Tracer } from './tracing/tracer.js';

/** For what is written when the last jobs have been stopped. */
const CLOSE_SLACK_MS = 1_000;

export interface Orchestrator {
  /** `http://host:port` */
  readonly http: string;
  /** Resolves when it was asked to drain and its last job has ended: then it may be closed. */
  readonly drained: Promise<void>;
  /** Stops taking requests and jobs, waits for those that run, gives the rest back to the queue. */
  close(): Promise<void>;
}

/** What everything else stands on. */
function openBase(config: OrchestratorConfig, artifactUrl: () => string, tracer: Tracer | undefined) {
  const log = createLogger(config.logLevel);
  const connections = new RedisConnections(config.redisUrl, log);
  // records and events share one connection: what is written first is there first
  const redis = connections.open('records');
  const queueRedis = connections.open('queue');
  const queueFailed = (cause: unknown): void => {
    // an outage is told of by its connection, not by every queue and worker
    if (queueRedis.status === 'ready') log.warn({ reason: reasonOf(cause) }, 'queue');
  };
  const failed = (what: string) => (cause: unknown) => log.error({ err: toPatchbayError(cause).toJSON() }, what);
  const scripts = new Scripts(redis, (reason) => log.warn({ reason }, 'Redis had lost its functions'));
  const stats = new JobStats(redis, failed('job stats'));
  return {
    config,
    log,
    connections,
    redis,
    queueRedis,
    scripts,
    records: new JobRecords(redis, scripts),
    queues: new Queues(queueRedis, queueFailed),
    queueFailed,
    stats,
    metrics: new Metrics(stats),
    tracer,
    tickets: new Tickets(config.token),
    gateway: new Gateway(config.gateway, config.gatewayToken, artifactUrl),
    failed,
  };
}
type Base = ReturnType<typeof openBase>;

/** Queue, placement and what connects them. `artifactUrl` is asked for when a job starts. */
function wireJobs(
  base: Base,
  artifacts: ArtifactStore,
  artifactUrl: () => string,
): { consumer: Consumer; controller: Controller; sweeper: Sweeper } {
  const { config, log, redis, records, queues, metrics, tracer, tickets, gateway } = base;
  const retention = new Retention(redis, records, artifacts, config);
  const sweeper = new Sweeper(redis, records, queues, base.failed('sweep'), () => retention.run());
  const release = (jobId: string): void => void sweeper.requeue(jobId).catch(base.failed('a parked job'));
  const claim: JobParts['claim'] = (model, signal, limitMs) => controller.claim(model, signal, limitMs);
  const events = new EventLog(redis, base.scripts, base.failed('event log'));
  const common = { records, events, tickets, metrics, log, tracer };
  const parts: JobParts = { ...common, limits: config, artifactUrl, claim, release };
  const consumer = new Consumer(base.queueRedis, (lease, stop) => runJob(lease, stop, parts), base.queueFailed);
  const connect: ConnectGang = (deployment, { index: replica, epoch, address, token }) =>
    new GangConnection({ deployment, replica, epoch, address, token }, gateway, config.gangGraceMs);
  const users: ModelUsers = {
    wanted: (model, replicas) => consumer.take(model, replicas),
    gone: async (model, cause) => {
      await consumer.leave(model);
      await queues.drainInto(model, false); // the next deployment of the name gives its jobs out
      for await (const jobId of queues.drain(model)) await records.failQueued(jobId, cause.toJSON());
    },
  };
  const controller = new Controller(new Registry(redis, log), gateway, connect, users, log);
  metrics.observe({
    models: () => controller.list().map(({ spec }) => spec.name),
    waiting: (model) => queues.waiting(model),
    running: () => consumer.running().length,
    deployments: () =>
      controller.list().map(({ spec, status, replicas }) => ({
        model: spec.name,
        status,
        ready: replicas.filter(({ state }) => state === 'ready').length,
      })),
    gatewayReachable: () => controller.gatewayReachable,
  });
  return { consumer, controller, sweeper };
}

/** What the scripts of the records go by, whoever runs them. */
async function publishSettings(redis: Redis, config: OrchestratorConfig, { policies }: Submitters): Promise<void> {
  const { jobTtlMs, maxQueuedPerModel } = config;
  await redis.hset(keys.settings, { ttlSeconds: Math.ceil(jobTtlMs / 1000), maxQueuedPerModel });
  // without a file, what another orchestrator of the installation was told stands
  if (config.submitters === undefined) return;
  const replace = redis.multi().del(keys.submitters);
  for (const [name, policy] of policies) replace.hset(keys.submitters, name, JSON.stringify(policy));
  await replace.exec();
}

/** Resolves when jobs and requests are taken. @throws `PB_CONFIG_INVALID`, `PB_ARTIFACT_STORE_UNAVAILABLE` */
export async function startOrchestrator(options: OrchestratorOptions): Promise<Orchestrator> {
  const config = parseConfig(options);
  const submitters = readSubmitters(config.submitters);
  const artifacts = await openStore(config);
  let http = '';
  const artifactUrl = (): string => config.artifactUrl ?? http;
  const base = openBase(config, artifactUrl, await openTracer());
  const { log, connections, redis, records, gateway } = base;
  const { consumer, controller, sweeper } = wireJobs(base, artifacts, artifactUrl);
  const openFollower = (): Redis => connections.open('follower');
  const changes = new ChangeFeed(redis, openFollower);
  const reader = new JobReader(redis);
  const drain = new Drain(consumer);
  const server = createServer({
    ...base,
    drain,
    auth: new Auth(
      { token: config.token, readToken: config.readToken, hosts: [config.httpHost] },
      base.tickets,
      submitters.keys,
      (jobId) => reader.owner(jobId),
    ),
    requireRedis: () => connections.require(redis),
    openFollower,
    changes,
    queueView: new QueueView(base.queues, controller, base.stats),
    reader,
    controller,
    health: new Health(redis, gateway, controller, drain),
    artifacts,
    artifactMaxBytes: config.artifactMaxBytes,
    promises: new Promises(redis),
  });
  await server.listen({ host: config.httpHost, port: config.httpPort });
  http = `http://${formatHost(config.httpHost)}:${(server.server.address() as AddressInfo).port}`;
  await new CancelBus(connections.open('cancel'), records, consumer, base.failed('cancel bus')).start();
  const reason = await base.scripts.load();
  if (reason !== undefined) log.info({ reason }, 'no Redis functions: scripts are sent with every call');
  await publishSettings(redis, config, submitters);
  await controller.start();
  sweeper.start();
  log.info({ http }, 'ready');

  return {
    http,
    drained: drain.done,
    close: async () => {
      // the ranks of running jobs still write artifacts, so HTTP ends after the jobs
      await consumer.close(config.shutdownGraceMs, config.shutdownGraceMs + config.cancelGraceMs + CLOSE_SLACK_MS);
      await sweeper.close();
      await server.close();
      controller.close();
      changes.close();
      await settledWithin(base.stats.close(), CLOSE_SLACK_MS);
      await base.queues.close();
      connections.close();
      await settledWithin(base.tracer?.close() ?? Promise.resolve(), CLOSE_SLACK_MS);
      log.info('closed');
    },
  };
}

const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
const formatHost = (host: string): string => (host.includes(':') ? `[${host}]` : host);
