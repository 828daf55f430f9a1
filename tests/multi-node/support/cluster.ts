/**
 * A Ray cluster over hosts, each node by `ray start --block` in a process group of its own, and a Patchbay stack on the
 * first host that uses it. `ray stop` is never called: it would end every Ray of the machine.
 * @module
 */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Patchbay } from '@patchbay/sdk';
import { stackInfo, type StackInfo } from '@patchbay/protocol';
import { Network, type Host } from './network.js';

const ROOT = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
const PYTHON = join(ROOT, '.venv/bin/python');
const START_MS = 90_000;
const RAY_PORT = 6380;
const CLIENT_PORT = 10101;

export const TINY_FACTS = join(ROOT, 'models/tiny-facts');

/** Waits for something, by looking. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  limitMs: number,
): Promise<T> {
  for (const end = Date.now() + limitMs; ;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`${what}: not within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

function endGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    process.kill(-child.pid!, signal);
  } catch {
    // gone already
  }
}

export interface Node {
  readonly host: Host;
  /** Ends its raylet, and by it all that Ray runs there, as a power cut would. */
  kill(): void;
}

/** Hosts, Ray on them and a stack that is told to use it. */
export class Cluster {
  readonly network = new Network();
  readonly folder = mkdtempSync('/tmp/pbm-');
  readonly #env: NodeJS.ProcessEnv;
  readonly #children: ChildProcess[] = [];
  #stack: ChildProcess | undefined;
  #count = 0;

  constructor() {
    const { RAY_ADDRESS: _address, ...inherited } = process.env;
    this.#env = {
      ...inherited,
      RAY_AUTH_MODE: 'token',
      RAY_AUTH_TOKEN: randomBytes(32).toString('hex'),
      PYTHONPATH: [join(ROOT, 'packages/worker-py/src'), join(ROOT, 'packages/protocol/gen/py')].join(':'),
      PYTHONUNBUFFERED: '1',
      PYTHONHASHSEED: '0',
      OMP_NUM_THREADS: '1',
      PATCHBAY_PLACEMENT_WAIT_S: '90', // a host takes its time to join
      GRPC_ENABLE_FORK_SUPPORT: '0',
      GRPC_VERBOSITY: 'NONE',
    };
  }

  host(short: string): Host {
    this.#count += 1;
    return this.network.add(short, this.#count);
  }

  /** A Ray node on the host; the first one is the head. */
  async join(host: Host, head?: Host): Promise<Node> {
    const where =
      head === undefined
        ? ['--head', '--no-monitor', '--include-dashboard=false', `--port=${RAY_PORT}`, `--ray-client-server-port=${CLIENT_PORT}`, `--temp-dir=${this.folder}/ray`]
        : [`--address=${head.address}:${RAY_PORT}`]; // prettier-ignore
    const flags = [`--node-ip-address=${host.address}`, '--num-cpus=4', '--object-store-memory=100000000'];
    const ports = ['--min-worker-port=0', '--max-worker-port=0', '--include-log-monitor=false'];
    const all = [
      '-m',
      'ray.scripts.scripts',
      'start',
      '--block',
      '--disable-usage-stats',
      ...where,
      ...flags,
      ...ports,
    ];
    const log = join(this.folder, `${host.name}-${this.#children.length}.log`);
    const child = this.#start(host, PYTHON, all, log, this.#env);
    await until(`Ray on ${host.name}`, () => this.#said(child, log, 'Ray runtime started'), START_MS);
    return { host, kill: () => endGroup(child, 'SIGKILL') };
  }

  /** `patchbay up` on the host, with a Redis of its own and this Ray. */
  async up(head: Host, how: 'inside' | 'client' = 'inside', on = head): Promise<StackInfo> {
    const home = join(this.folder, how);
    const address = how === 'inside' ? `${head.address}:${RAY_PORT}` : `ray://${head.address}:${CLIENT_PORT}`;
    const env = { ...this.#env, PATCHBAY_HOME: home, RAY_ADDRESS: address, PATCHBAY_HTTP_HOST: on.address };
    const cli = join(ROOT, 'packages/cli/dist/bin.js');
    this.#stack = this.#start(on, process.execPath, [cli, 'up'], join(this.folder, 'up.log'), env);
    const file = join(home, 'run/stack.json');
    return until(
      'the stack',
      () => (existsSync(file) ? stackInfo.parse(JSON.parse(readFileSync(file, 'utf8'))) : this.#alive()),
      START_MS,
    );
  }

  /** As Ctrl-C would: `down` ends what it had on Ray. */
  async down(): Promise<void> {
    const stack = this.#stack;
    if (stack === undefined || stack.exitCode !== null) return;
    const ended = new Promise((resolve) => stack.once('exit', resolve));
    endGroup(stack, 'SIGINT');
    await ended;
    this.#stack = undefined;
  }

  /** Command lines of our ranks and supervisors on a host. */
  actors(host: Host): string[] {
    const { execPath: _node } = process;
    const pids = host.run('sh', '-c', 'ip netns pids "$(ip netns identify $$)"').split('\n').filter(Boolean);
    return pids.map((pid) => commandOf(pid)).filter((command) => /^ray::(Rank|GroupSupervisor)/.test(command));
  }

  async close(): Promise<void> {
    await this.down();
    for (const child of this.#children) endGroup(child, 'SIGKILL');
    this.network.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #start(host: Host, command: string, args: string[], log: string, env: NodeJS.ProcessEnv): ChildProcess {
    const child = host.spawn(command, args, { env, cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'] });
    const file = createWriteStream(log, { flags: 'a' });
    child.stdout!.pipe(file);
    child.stderr!.pipe(file);
    this.#children.push(child);
    return child;
  }

  #said(child: ChildProcess, log: string, words: string): true | undefined {
    const text = existsSync(log) ? readFileSync(log, 'utf8') : '';
    if (child.exitCode !== null) throw new Error(`it ended: ${text.slice(-2000)}`);
    return text.includes(words) ? true : undefined;
  }

  #alive(): undefined {
    if (this.#stack?.exitCode == null) return undefined;
    throw new Error(`the stack ended: ${readFileSync(join(this.folder, 'up.log'), 'utf8').slice(-3000)}`);
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

export function clientOf(info: StackInfo): Patchbay {
  return new Patchbay({ redisUrl: info.redisUrl, httpUrl: info.http, token: info.token });
}
