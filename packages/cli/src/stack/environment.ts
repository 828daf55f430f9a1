/** What the parts of a stack find in their environment. @module */
import { delimiter } from 'node:path';
import { randomBytes } from 'node:crypto';
import type { StackInfo } from '@patchbay/protocol';
import { sandboxEnvironment, type Settings } from '../config.js';
import { installation } from '../installation.js';
import type { StackPaths } from './paths.js';

export interface StackEnvironment {
  /** Gateway, Ray and by it the ranks. */
  readonly worker: NodeJS.ProcessEnv;
  readonly orchestrator: NodeJS.ProcessEnv;
}

/** Without what only some parts may know, or what changes when a part is started again. */
export function stackEnvironment(
  paths: StackPaths,
  info: StackInfo,
  config: Settings,
  environment: NodeJS.ProcessEnv,
): StackEnvironment {
  const { NODE_OPTIONS: _options, PATCHBAY_TOKEN: _token, ...inherited } = environment;
  const port = new URL(info.http).port;
  const shared = {
    ...inherited,
    PATCHBAY_HOME: paths.home,
    PATCHBAY_GATEWAY_TOKEN: randomBytes(24).toString('base64url'),
  };
  const pythonPath = [...installation.pythonPath, environment['PYTHONPATH'] ?? '']
    .filter((path) => path !== '')
    .join(delimiter);
  return {
    worker: {
      ...shared,
      ...sandboxEnvironment(config),
      PYTHONPATH: pythonPath,
      PYTHONUNBUFFERED: '1',
      PYTHONHASHSEED: '0', // some model code walks sets; every rank must meet its modules in one order
      GRPC_ENABLE_FORK_SUPPORT: '0', // its handlers stop the process for seconds when Ray forks a worker
      GRPC_VERBOSITY: environment['GRPC_VERBOSITY'] ?? 'NONE',
    },
    orchestrator: {
      ...shared,
      PATCHBAY_TOKEN: info.token,
      PATCHBAY_GATEWAY: info.gateway,
      PATCHBAY_HTTP_HOST: config.httpHost ?? '127.0.0.1',
      PATCHBAY_HTTP_PORT: port,
      PATCHBAY_ARTIFACT_URL: config.artifactUrl,
    },
  };
}
