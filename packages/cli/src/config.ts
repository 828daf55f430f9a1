/**
 * Settings of the command and of the local stack: option > `PATCHBAY_*` environment > `patchbay.toml` > default.
 * Not here: a running stack's addresses, which the SDK reads from `run/stack.json`.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { SANDBOX_LEVELS, STACK_FILE, error, formatPath } from '@patchbay/protocol';
import { z } from 'zod';
import { installation } from './installation.js';

const most = z.coerce.number().int().min(1).optional();

/** Keys of `patchbay.toml`; each one's variable is in `VARIABLES`. */
export const settings = z.strictObject({
  /** State of a stack: artifacts, Redis files, logs, sockets. Default: the nearest `.patchbay` with a running stack up the tree, else the nearest, else here. */
  home: z.string().min(1).optional(),
  /** A Redis to use instead of an own one. */
  redisUrl: z.string().min(1).optional(),
  /** An orchestrator that runs somewhere else; clients only. */
  httpUrl: z.url().optional(),
  token: z.string().min(1).optional(),
  /** A Ray cluster to use instead of an own one: `host:port` or `ray://host:port`. */
  rayAddress: z.string().min(1).optional(),
  /** Where the orchestrator listens; default: this host only. Ranks on other hosts need another. */
  httpHost: z.string().min(1).optional(),
  /** Where the ranks' nodes reach the orchestrator; default: where it listens. */
  artifactUrl: z.url().optional(),
  /** Python that has the worker's packages. */
  python: z.string().min(1).optional(),
  /** Port of the orchestrator's HTTP; default: a free one. */
  httpPort: z.coerce.number().int().min(1).max(65535).optional(),
  // of the table [sandbox] in the file: `minimum`, `maxEditMemoryBytes`, ...
  /** Python edits are refused below this level of the sandbox; default: confined. */
  sandboxMinimum: z.enum(SANDBOX_LEVELS).optional(),
  /** The most that a document's `limits` may ask for, each by the name of the limit. */
  sandboxMaxTimeoutMs: most,
  sandboxMaxInitTimeoutMs: most,
  sandboxMaxEditTimeoutMs: most,
  sandboxMaxEditMemoryBytes: most,
  sandboxMaxEditCalls: most,
  sandboxMaxLiveGraphs: most,
  sandboxMaxLogBytes: most,
  sandboxMaxSaveCtxBytes: most,
  sandboxMaxSaveCtxTensors: most,
});
type Parsed = z.output<typeof settings>;
export type Settings = { readonly [K in keyof Parsed]?: Exclude<Parsed[K], undefined> | undefined };
export interface Config extends Omit<Settings, 'home' | 'python'> {
  readonly home: string;
  readonly python: string;
}

const SANDBOX = 'sandbox';
type SandboxKey = Extract<keyof Parsed, `${typeof SANDBOX}${string}`>;
const sandboxKeys = Object.keys(settings.shape).filter((key): key is SandboxKey => key.startsWith(SANDBOX));
/** `sandboxMinimum` -> `PATCHBAY_SANDBOX_MINIMUM` */
const sandboxVariable = (key: SandboxKey): string =>
  `PATCHBAY_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;

/** What the nodes of an own Ray find in their environment. */
export const sandboxEnvironment = (config: Settings): Record<string, string> =>
  Object.fromEntries(
    sandboxKeys.flatMap((key) => (config[key] === undefined ? [] : [[sandboxVariable(key), String(config[key])]])),
  );

/** What environment and file say of this machine, and not of a stack. @throws `PB_CONFIG_INVALID` */
export async function machineSettings(): Promise<Settings> {
  const config: Settings = await loadConfig();
  return Object.fromEntries((['python', ...sandboxKeys] as const).map((key) => [key, config[key]]));
}

/** Of a larger object, what is a setting. */
export const onlySettings = (options: Settings): Settings =>
  Object.fromEntries(Object.entries(options).filter(([key]) => key in settings.shape));

const VARIABLES: Readonly<Record<keyof Parsed, readonly string[]>> = {
  ...(Object.fromEntries(sandboxKeys.map((key) => [key, [sandboxVariable(key)]])) as Record<SandboxKey, string[]>),
  home: ['PATCHBAY_HOME'],
  redisUrl: ['PATCHBAY_REDIS_URL'],
  httpUrl: ['PATCHBAY_HTTP_URL'],
  token: ['PATCHBAY_TOKEN'],
  rayAddress: ['PATCHBAY_RAY_ADDRESS', 'RAY_ADDRESS'],
  python: ['PATCHBAY_PYTHON'],
  httpPort: ['PATCHBAY_HTTP_PORT'],
  httpHost: ['PATCHBAY_HTTP_HOST'],
  artifactUrl: ['PATCHBAY_ARTIFACT_URL'],
};

function findUp(name: string, from: string): string | undefined {
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    if (existsSync(join(folder, name))) return join(folder, name);
    if (dirname(folder) === folder) return undefined;
  }
}

/** As the SDK: the nearest folder with a running stack, else the nearest one, else here. */
function defaultHome(cwd: string): string {
  const running = findUp(join('.patchbay', STACK_FILE), cwd);
  if (running !== undefined) return dirname(dirname(running));
  return findUp('.patchbay', cwd) ?? join(cwd, '.patchbay');
}

/** Tables are for other parts, but for `[sandbox]`, whose `minimum` is our `sandboxMinimum`. */
function withoutTables({ [SANDBOX]: sandbox, ...values }: Record<string, unknown>): Record<string, unknown> {
  const capital = (key: string): string => key.charAt(0).toUpperCase() + key.slice(1);
  const own = typeof sandbox === 'object' ? Object.entries(sandbox ?? {}) : [];
  return {
    ...Object.fromEntries(Object.entries(values).filter(([, value]) => typeof value !== 'object')),
    ...Object.fromEntries(own.map(([key, value]) => [SANDBOX + capital(key), value as unknown])),
  };
}

async function fromFile(cwd: string): Promise<{ path: string; values: unknown } | undefined> {
  const path = findUp('patchbay.toml', cwd);
  if (path === undefined) return undefined;
  const { parse } = await import('smol-toml');
  try {
    return { path, values: withoutTables(parse(readFileSync(path, 'utf8'))) };
  } catch (cause) {
    throw error('PB_CONFIG_INVALID', { reason: `${path}: ${(cause as Error).message}` }, { cause });
  }
}

function check(values: unknown, where: (key: string) => string): Parsed {
  const parsed = settings.safeParse(values);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const key = issue.code === 'unrecognized_keys' ? issue.keys[0]! : formatPath(issue.path);
  const reason =
    issue.code === 'unrecognized_keys'
      ? `unknown key; known are ${Object.keys(settings.shape).join(', ')}`
      : issue.message;
  throw error('PB_CONFIG_INVALID', { reason: `${where(key)}: ${reason}` });
}

const present = <T extends object>(values: T): Partial<T> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined && value !== '')) as Partial<T>;

/**
 * @param options win over everything else; undefined and '' mean "not set"
 * @throws `PB_CONFIG_INVALID`
 */
export async function loadConfig(
  options: Settings = {},
  environment = process.env,
  cwd = process.cwd(),
): Promise<Config> {
  const file = await fromFile(cwd);
  const fileValues = file === undefined ? {} : check(file.values, (key) => `${key} in ${file.path}`);
  const environmentValues = check(
    present(
      Object.fromEntries(
        Object.entries(VARIABLES).map(([key, names]) => [key, names.map((name) => environment[name]).find(Boolean)]),
      ),
    ),
    (key) => VARIABLES[key as keyof Parsed].join(' or '),
  );
  const optionValues = check(present(options), (key) => `option ${key}`);
  const merged = { ...present(fileValues), ...environmentValues, ...optionValues };
  const relativeTo =
    optionValues.home === undefined && environmentValues.home === undefined && file !== undefined
      ? dirname(file.path)
      : cwd;
  const home = merged.home === undefined ? defaultHome(cwd) : resolve(relativeTo, merged.home);
  return { ...merged, home, python: merged.python ?? installation.python };
}
