/** What the client can be told, and where it finds a stack when it is told nothing. Not here: connections. @module */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { STACK_FILE, error, formatPath, stackInfo, type PatchbayError, type StackInfo } from '@patchbay/protocol';
import { parse as parseToml } from 'smol-toml';
import { z } from 'zod';
import type { HttpTarget } from './transport/http.js';

const ms = z.int().min(1);

const schema = z.strictObject({
  home: z.string().min(1).optional(),
  redisUrl: z.string().min(1).optional(),
  httpUrl: z.url().optional(),
  token: z.string().min(1).optional(),
  connectTimeoutMs: ms.default(5_000),
  submitTimeoutMs: ms.default(10_000),
  reconnectTimeoutMs: ms.default(60_000),
  eagerBytes: z
    .int()
    .min(0)
    .default(16 * 1024 * 1024),
});

/**
 * Every option may be left out: option > `PATCHBAY_*` environment > `patchbay.toml` > the running local stack > default.
 * Empty strings and undefined mean "not set".
 */
export interface PatchbayOptions {
  /** Folder of a local stack. Env `PATCHBAY_HOME`. @defaultValue the nearest `.patchbay` from the working folder upwards */
  readonly home?: string | undefined;
  /** `redis://`, `rediss://` or the path of a socket. Env `PATCHBAY_REDIS_URL`. @defaultValue that of the local stack */
  readonly redisUrl?: string | undefined;
  /** The orchestrator, for artifacts, models and lists. Env `PATCHBAY_HTTP_URL`. @defaultValue that of the local stack */
  readonly httpUrl?: string | undefined;
  /** Sent to the orchestrator. Env `PATCHBAY_TOKEN`. @defaultValue that of the local stack */
  readonly token?: string | undefined;
  /** Opening a connection, in milliseconds; then `PB_REDIS_UNAVAILABLE`. @defaultValue 5000 */
  readonly connectTimeoutMs?: number | undefined;
  /** Bounds a submission, not the job (that is `limits`), in milliseconds; then `PB_SUBMIT_TIMEOUT`. @defaultValue 10000 */
  readonly submitTimeoutMs?: number | undefined;
  /** How long Redis may be away while a job is awaited, in milliseconds; then `PB_REDIS_UNAVAILABLE`. @defaultValue 60000 */
  readonly reconnectTimeoutMs?: number | undefined;
  /** Result files of at most this many bytes come with the result; tensors of larger ones are read on demand. @defaultValue 16 MiB */
  readonly eagerBytes?: number | undefined;
}

/** Settings that the environment and `patchbay.toml` can give. */
const SHARED = {
  home: 'PATCHBAY_HOME',
  redisUrl: 'PATCHBAY_REDIS_URL',
  httpUrl: 'PATCHBAY_HTTP_URL',
  token: 'PATCHBAY_TOKEN',
} as const;

type Values = Readonly<Record<string, unknown>>;

function present(values: Values): Values {
  const trimmed = Object.entries(values).map(
    ([key, value]) => [key, typeof value === 'string' ? value.trim() : value] as const,
  );
  return Object.fromEntries(trimmed.filter(([, value]) => value !== undefined && value !== ''));
}

function findUp(name: string, from: string): string | undefined {
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    if (existsSync(join(folder, name))) return join(folder, name);
    if (dirname(folder) === folder) return undefined;
  }
}

/** The shared settings of `patchbay.toml`; its other entries are for other parts. */
function fromFile(cwd: string): Values {
  const path = findUp('patchbay.toml', cwd);
  if (path === undefined) return {};
  try {
    const values: Values = parseToml(readFileSync(path, 'utf8'));
    const known = Object.fromEntries(Object.keys(SHARED).map((key) => [key, values[key]]));
    return typeof known['home'] === 'string' ? { ...known, home: resolve(dirname(path), known['home']) } : known;
  } catch (cause) {
    throw error('PB_CONFIG_INVALID', { reason: `${path}: ${(cause as Error).message}` }, { cause });
  }
}

export class ClientConfig {
  readonly home: string;
  readonly values: z.output<typeof schema>;

  /** @throws `PB_CONFIG_INVALID` */
  constructor(
    options: PatchbayOptions = {},
    environment: NodeJS.ProcessEnv = process.env,
    cwd: string = process.cwd(),
  ) {
    const fromEnvironment = Object.fromEntries(Object.entries(SHARED).map(([key, name]) => [key, environment[name]]));
    const merged = { ...present(fromFile(cwd)), ...present(fromEnvironment), ...present({ ...options }) };
    const parsed = schema.safeParse(merged);
    if (!parsed.success) {
      const issue = parsed.error.issues[0]!;
      throw error('PB_CONFIG_INVALID', { reason: `${formatPath(issue.path) || 'options'}: ${issue.message}` });
    }
    this.values = parsed.data;
    const running = findUp(join('.patchbay', STACK_FILE), cwd);
    const nearest =
      running === undefined ? (findUp('.patchbay', cwd) ?? join(cwd, '.patchbay')) : dirname(dirname(running));
    this.home = resolve(cwd, parsed.data.home ?? nearest);
  }

  /** @throws `PB_STACK_NOT_RUNNING` */
  redisUrl(): string {
    return this.values.redisUrl ?? this.#stack().redisUrl;
  }

  /** @throws `PB_STACK_NOT_RUNNING`, `PB_CONFIG_INVALID` when only Redis was configured */
  http(): HttpTarget {
    const { httpUrl, redisUrl, token } = this.values;
    if (httpUrl !== undefined) return { url: httpUrl, token };
    const stack = redisUrl === undefined ? this.#stack() : this.#readStack();
    if (stack === undefined || (redisUrl !== undefined && redisUrl !== stack.redisUrl)) {
      throw error('PB_CONFIG_INVALID', { reason: 'redisUrl is set, but httpUrl is needed for this call too' });
    }
    return { url: stack.http, token: token ?? stack.token };
  }

  /** Why nothing answers: the stack that was found is not running any more. */
  explain(): PatchbayError | undefined {
    const { httpUrl, redisUrl } = this.values;
    if (httpUrl !== undefined || redisUrl !== undefined) return undefined;
    const stack = this.#readStack();
    return stack !== undefined && isAlive(stack.keeperPid) ? undefined : this.#notRunning();
  }

  #stack(): StackInfo {
    const stack = this.#readStack();
    if (stack === undefined) throw this.#notRunning();
    return stack;
  }

  #readStack(): StackInfo | undefined {
    try {
      return stackInfo.parse(JSON.parse(readFileSync(join(this.home, STACK_FILE), 'utf8')));
    } catch {
      return undefined; // not there, or of a stack that is just starting
    }
  }

  #notRunning(): PatchbayError {
    return error('PB_STACK_NOT_RUNNING', { home: this.home });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EPERM';
  }
}
