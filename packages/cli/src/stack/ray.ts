/**
 * The Ray head of a stack. A Ray cluster always listens on the host's address, so token authentication is always on.
 * Ray's own command to stop it is never used: it ends every Ray of the machine.
 * @module
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { GuardedProcess } from '../processes/guarded-process.js';
import { shortTemporaryFolder, type StackPaths } from './paths.js';
import { accepts, freePorts } from '../processes/ports.js';
import { waitFor } from '../processes/wait.js';

const START_TIMEOUT_MS = 90_000;
const TRIES = 3;
/** Logical: ranks of tiny models share cores. Ray starts a worker process only when one is needed. */
const LOGICAL_CPUS = 64;
const OBJECT_STORE_BYTES = 100_000_000; // tensors never go through it
const STARTED = 'Ray runtime started';
/** Words of the GCS, after which `ray start` itself goes on waiting for 40 s. */
const PORT_TAKEN = 'Failed to start the grpc server. The specified port';

export interface RayOptions {
  readonly paths: StackPaths;
  readonly python: string;
  readonly env: NodeJS.ProcessEnv;
  /** Where ports come from. */
  readonly ports?: (count: number) => Promise<number[]>;
}

export interface RunningRay {
  readonly process: GuardedProcess;
  readonly address: string;
}

/** Empty when it is not there yet. */
function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0);
  }
}

async function startOnce(options: RayOptions, signal: AbortSignal): Promise<RunningRay> {
  const { paths, python } = options;
  const [gcs, client, agent] = (await (options.ports ?? freePorts)(3)) as [number, number, number];
  const folder = shortTemporaryFolder();
  const flags = {
    port: gcs, 'ray-client-server-port': client, 'dashboard-agent-listen-port': agent, 'min-worker-port': 0, 'max-worker-port': 0,
    'num-cpus': LOGICAL_CPUS, 'object-store-memory': OBJECT_STORE_BYTES, 'temp-dir': folder,
    'include-dashboard': 'false', 'include-log-monitor': 'false',
  }; // prettier-ignore
  const started = await GuardedProcess.start({
    name: 'ray',
    command: [python, '-m', 'ray.scripts.scripts', 'start', '--head', '--block', '--no-monitor', '--disable-usage-stats',
      ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`)], // prettier-ignore
    env: options.env,
    log: paths.log('ray'),
    python,
    stopSignal: 'INT', // SIGTERM drains for up to 30 s
    graceSeconds: 5,
    remove: [folder],
  });
  const isUp = async (): Promise<boolean | undefined> => {
    if (started.ended !== undefined) return false;
    if (read(join(folder, 'session_latest/logs/gcs_server.err')).includes(PORT_TAKEN))
      throw started.failure(PORT_TAKEN);
    return started.hasSaid(STARTED) && (await accepts('127.0.0.1', gcs)) ? true : undefined;
  };
  try {
    if (await waitFor(isUp, { timeoutMs: START_TIMEOUT_MS, signal }))
      return { process: started, address: `127.0.0.1:${gcs}` };
    throw started.failure(started.ended ?? `not ready within ${START_TIMEOUT_MS / 1000} s`);
  } catch (problem) {
    await started.kill();
    throw problem;
  }
}

/** Starts a head; again with other ports when one was taken in between. */
export async function startRay(options: RayOptions, signal: AbortSignal): Promise<RunningRay> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(options, signal);
    } catch (problem) {
      if (attempt === TRIES || !/port/i.test((problem as Error).message)) throw problem;
    }
  }
}
