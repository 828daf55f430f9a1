/** Files and folders of a stack below PATCHBAY_HOME, and where its sockets go. @module */
import { mkdirSync, mkdtempSync, renameSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { STACK_FILE } from '@patchbay/protocol';

export const STACK_PARTS = ['redis', 'ray', 'gateway', 'orchestrator'] as const;
export type StackPart = (typeof STACK_PARTS)[number];

/** sockaddr_un holds 108 bytes with the closing zero. */
const MAX_SOCKET_PATH = 107;

export interface StackPaths {
  readonly home: string;
  readonly run: string;
  readonly redis: string;
  readonly artifacts: string;
  readonly logs: string;
  readonly stackFile: string;
  readonly keeperFile: string;
  readonly rayToken: string;
  log(part: StackPart | 'keeper'): string;
}

export function stackPaths(home: string): StackPaths {
  const logs = join(home, 'logs');
  return {
    home,
    run: join(home, 'run'),
    redis: join(home, 'redis'),
    artifacts: join(home, 'artifacts'),
    logs,
    stackFile: join(home, STACK_FILE),
    keeperFile: join(home, 'run/keeper.json'),
    rayToken: join(home, 'run/ray-token'),
    log: (part) => join(logs, `${part}.log`),
  };
}

/** Makes the folders, readable by their owner only. */
export function makeFolders(paths: StackPaths): void {
  for (const path of [paths.home, paths.run, paths.redis, paths.artifacts, paths.logs])
    mkdirSync(path, { recursive: true, mode: 0o700 });
}

/** The last stack's logs stay as `.old`. */
export function setOldLogsAside(paths: StackPaths): void {
  for (const part of STACK_PARTS)
    if (existsSync(paths.log(part))) renameSync(paths.log(part), `${paths.log(part)}.old`);
}

export interface SocketPath {
  readonly path: string;
  /** A folder that was made for it. */
  readonly temporary?: string;
}

/** A path for a socket: in `run/` where it is short enough and safe in a URL, else in a new short folder. */
export function socketPath(paths: StackPaths, name: string): SocketPath {
  const path = join(paths.run, name);
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH && /^[A-Za-z0-9._~/-]+$/.test(path)) return { path };
  const temporary = shortTemporaryFolder();
  return { path: join(temporary, name), temporary };
}

/** A new folder with a path short enough for the sockets below it. */
export function shortTemporaryFolder(): string {
  const base = Buffer.byteLength(tmpdir()) <= 20 ? tmpdir() : '/tmp';
  return mkdtempSync(join(base, 'pb-'));
}
