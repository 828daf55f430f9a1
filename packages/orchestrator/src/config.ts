/**
 * What the orchestrator can be told: `PATCHBAY_*` environment > `[orchestrator]` of patchbay.toml > default.
 * Not here: command line options; the CLI turns its own into environment variables.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { error, formatPath } from '@patchbay/protocol';
import { parse as parseToml } from 'smol-toml';
import { z } from 'zod';

const milliseconds = z.coerce.number().int().min(1);

const schema = z.strictObject({
  /** Redis that holds jobs and records: a URL, or the path of a unix socket. Env `PATCHBAY_REDIS_URL`. */
  redisUrl: z.string().min(1).default('redis://127.0.0.1:6379'),
  /** Env `PATCHBAY_HTTP_HOST`. */
  httpHost: z.string().min(1).default('127.0.0.1'),
  /** 0 takes a free port. Env `PATCHBAY_HTTP_PORT`. */
  httpPort: z.coerce.number().int().min(0).max(65535).default(8787),
  /** Bearer token of everything under /api; without one the API is open. Env `PATCHBAY_TOKEN`. */
  token: z.string().min(1).optional(),
  /** Second token that may look but not change anything; needs `token`. Env `PATCHBAY_READ_TOKEN`. */
  readToken: z.string().min(1).optional(),
  /** host:port of the cluster's gateway. Env `PATCHBAY_GATEWAY`. */
  gateway: z.string().min(1).default('127.0.0.1:50051'),
  /** Env `PATCHBAY_GATEWAY_TOKEN`. */
  gatewayToken: z.string().default(''),
  /** Directory of state; artifacts are in `artifacts/` below it, unless `artifactStore` says otherwise. Env `PATCHBAY_HOME`. */
  home: z.string().min(1).default('.patchbay'),
  /** How the ranks' nodes reach this HTTP server; default: its own address. Env `PATCHBAY_ARTIFACT_URL`. */
  artifactUrl: z.url().optional(),
  /**
   * Bucket for artifacts, `s3://bucket/prefix`; region, credentials and endpoint as for AWS's own tools. Default: a directory.
   * Env `PATCHBAY_ARTIFACT_STORE`.
   */
  artifactStore: z
    .string()
    .regex(/^s3:\/\/[a-z0-9][a-z0-9.-]+(\/[\w./-]*)?$/, 'write it as s3://bucket/prefix')
    .optional(),
  /** Largest artifact that is taken, in bytes. Env `PATCHBAY_ARTIFACT_MAX_BYTES`. */
  artifactMaxBytes: z.coerce
    .number()
    .int()
    .min(1)
    .default(64 * 2 ** 30),
  /** How long a job that was taken may wait for a replica to be ready; a longer limits.timeoutMs counts instead. Env `PATCHBAY_PLACE_TIMEOUT_MS`. */
  placeTimeoutMs: milliseconds.default(120_000),
  /** How long a broken stream to a gang may stay away before its job is given to another attempt. Env `PATCHBAY_GANG_GRACE_MS`. */
  gangGraceMs: milliseconds.default(5_000),
  /** How long a cancelled job may take to answer before its end is recorded anyway. Env `PATCHBAY_CANCEL_GRACE_MS`. */
  cancelGraceMs: milliseconds.default(2_000),
  /** How long running jobs may go on after a SIGTERM before they are given back to the queue. Env `PATCHBAY_SHUTDOWN_GRACE_MS`. */
  shutdownGraceMs: milliseconds.default(5_000),
  /** How long records, results and events of ended jobs are kept. Env `PATCHBAY_JOB_TTL_MS`. */
  jobTtlMs: milliseconds.default(7 * 24 * 3_600_000),
  /** Documents and results of ended jobs that Redis may hold, in bytes; the oldest go first. Env `PATCHBAY_JOB_BUDGET_BYTES`. */
  jobBudgetBytes: z.coerce
    .number()
    .int()
    .min(1)
    .default(2 ** 30),
  /** How long an artifact is kept that no job refers to. Env `PATCHBAY_ARTIFACT_TTL_MS`. */
  artifactTtlMs: milliseconds.default(24 * 3_600_000),
  /** Jobs that may wait for one deployment; more are refused with `PB_QUEUE_FULL`. Env `PATCHBAY_MAX_QUEUED_PER_MODEL`. */
  maxQueuedPerModel: z.coerce.number().int().min(1).default(100_000),
  /** File of submitters, their API keys and what is granted to them (docs/jobs.md). Env `PATCHBAY_SUBMITTERS`. */
  submitters: z.string().min(1).optional(),
  /** Env `PATCHBAY_LOG_LEVEL`. */
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
  /** End when stdin closes, so that a killed parent leaves nothing. Env `PATCHBAY_EXIT_WITH_PARENT`. */
  exitWithParent: z.stringbool().or(z.boolean()).default(false),
});
export type OrchestratorConfig = z.output<typeof schema>;
export type OrchestratorOptions = z.input<typeof schema>;

/** `redisUrl` -> `PATCHBAY_REDIS_URL` */
const variable = (option: string): string =>
  `PATCHBAY_${option.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;

function fromFile(directory: string): Record<string, unknown> {
  const file = join(directory, 'patchbay.toml');
  if (!existsSync(file)) return {};
  try {
    const section = parseToml(readFileSync(file, 'utf8'))['orchestrator'];
    return typeof section === 'object' ? (section as Record<string, unknown>) : {};
  } catch (cause) {
    throw error('PB_CONFIG_INVALID', { reason: (cause as Error).message }, { path: file, cause });
  }
}

/** Checks options and fills in defaults. @throws `PB_CONFIG_INVALID` */
export function parseConfig(options: Record<string, unknown>): OrchestratorConfig {
  const parsed = schema.safeParse(options);
  if (parsed.success) return { ...parsed.data, home: resolve(parsed.data.home) };
  const issue = parsed.error.issues[0]!;
  throw error('PB_CONFIG_INVALID', { reason: issue.message }, { path: variable(formatPath(issue.path)) });
}

/** @throws `PB_CONFIG_INVALID` naming the variable or the file */
export function loadConfig(env: NodeJS.ProcessEnv = process.env, directory = process.cwd()): OrchestratorConfig {
  const options: Record<string, unknown> = fromFile(directory);
  for (const option of Object.keys(schema.shape)) {
    const value = env[variable(option)];
    if (value !== undefined && value !== '') options[option] = value;
  }
  return parseConfig(options);
}
