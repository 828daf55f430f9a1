/**
 * Hosts made of network namespaces: each with an address of its own on one switch, its own name resolution and processes.
 * Made and removed by the test that asks; what a killed run left behind is removed by the next one. Linux, root, iproute2.
 * Not here: what runs on the hosts (cluster.ts).
 * @module
 */
import { execFileSync, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NAMES = /^pbn(\d+)-/;
const RESOLVERS = '/etc/netns';
const SLOW_LINK = fileURLToPath(new URL('slow_link.py', import.meta.url));
const PYTHON = fileURLToPath(new URL('../../../.venv/bin/python', import.meta.url));

const ip = (...args: string[]): string =>
  execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** Why this machine cannot make hosts; undefined when it can. */
export function whyNoNetwork(): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces are a thing of Linux';
  if (process.getuid?.() !== 0) return 'making network namespaces needs root';
  const probe = `pbn${process.pid}-probe`;
  try {
    ip('-V');
  } catch {
    return 'the command ip is missing: apt-get install iproute2';
  }
  try {
    ip('netns', 'add', probe);
    try {
      ip('-n', probe, 'link', 'add', 'name', 'one', 'type', 'veth', 'peer', 'name', 'two');
      ip('-n', probe, 'link', 'add', 'name', 'three', 'type', 'bridge');
      ip('netns', 'exec', probe, 'true');
    } finally {
      ip('netns', 'del', probe);
    }
    return undefined;
  } catch (problem) {
    return `the kernel does not let us: ${String((problem as { stderr?: string }).stderr ?? problem).trim()}`;
  }
}

export interface Host {
  readonly name: string;
  readonly address: string;
  /** Starts a command on the host, as the leader of a process group of its own. */
  spawn(command: string, args: readonly string[], options: SpawnOptions): ChildProcess;
  /** Runs a command on the host and waits for it. */
  run(command: string, ...args: string[]): string;
  /** Pulls its cable, or plugs it in again. */
  link(state: 'up' | 'down'): void;
  /** Makes every packet late that it sends or gets; returns what makes it as before. */
  slow(milliseconds: number): Promise<() => void>;
}

function removeLeftOvers(): void {
  for (const line of ip('netns', 'list').split('\n')) {
    const name = line.split(' ')[0] ?? '';
    const owner = NAMES.exec(name)?.[1];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) removeNamespace(name);
  }
}

function removeNamespace(name: string): void {
  for (const pid of ip('netns', 'pids', name).split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // it ended in between
    }
  }
  ip('netns', 'del', name);
  rmSync(join(RESOLVERS, name), { recursive: true, force: true });
}

/** A switch with this process at its `.254`. `close` ends every process on its hosts and leaves nothing. */
export class Network {
  readonly #prefix = `pbn${process.pid}-`;
  readonly #subnet: string;
  readonly #hosts: string[] = [];
  readonly #cable = `pbn${process.pid}`;

  constructor() {
    removeLeftOvers();
    this.#subnet = `10.${77 + (Math.floor(process.pid / 256 / 128) % 100)}.${(process.pid % 254) + 1}`;
    const hub = `${this.#prefix}hub`;
    ip('netns', 'add', hub);
    ip('-n', hub, 'link', 'add', 'hub', 'type', 'bridge');
    ip('-n', hub, 'link', 'set', 'hub', 'up');
    ip('link', 'add', this.#cable, 'type', 'veth', 'peer', 'name', 'outside', 'netns', hub);
    ip('-n', hub, 'link', 'set', 'outside', 'master', 'hub', 'up');
    ip('address', 'add', `${this.#subnet}.254/24`, 'dev', this.#cable);
    ip('link', 'set', this.#cable, 'up');
  }

  add(short: string, number: number): Host {
    const name = `${this.#prefix}${short}`;
    const hub = `${this.#prefix}hub`;
    const port = `port-${short}`;
    const address = `${this.#subnet}.${number}`;
    ip('netns', 'add', name);
    this.#hosts.push(name);
    ip('-n', name, 'link', 'set', 'lo', 'up');
    ip('-n', name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', port, 'netns', hub);
    ip('-n', hub, 'link', 'set', 'dev', port, 'master', 'hub', 'up');
    ip('-n', name, 'address', 'add', `${address}/24`, 'dev', 'eth0');
    ip('-n', name, 'link', 'set', 'eth0', 'up');
    // Ray finds its own address by the way to the outside
    ip('-n', name, 'route', 'add', 'default', 'via', `${this.#subnet}.254`);
    // torch asks who a peer is, and without an answer waits for ten seconds
    mkdirSync(join(RESOLVERS, name), { recursive: true });
    const names = Array.from({ length: 9 }, (_, index) => `${this.#subnet}.${index + 1} host${index + 1}`);
    writeFileSync(join(RESOLVERS, name, 'hosts'), ['127.0.0.1 localhost', ...names, ''].join('\n'));
    writeFileSync(join(RESOLVERS, name, 'resolv.conf'), '');
    const run = (command: string, ...args: string[]): string => ip('netns', 'exec', name, command, ...args);
    return {
      name,
      address,
      run,
      spawn: (command, args, options) =>
        spawn('ip', ['netns', 'exec', name, command, ...args], { ...options, detached: true }),
      link: (state) => void ip('-n', hub, 'link', 'set', 'dev', port, state),
      slow: (milliseconds) => this.#slow(port, short, milliseconds),
    };
  }

  /** Not by netem, which many kernels lack: the port moves to a switch of its own, and a process carries the frames across. */
  async #slow(port: string, short: string, milliseconds: number): Promise<() => void> {
    const hub = `${this.#prefix}hub`;
    const [aside, near, far] = [`slow-${short}`, `near-${short}`, `far-${short}`];
    const command = ['netns', 'exec', hub, PYTHON, SLOW_LINK, near, far, `${milliseconds}`];
    const carrier = spawn('ip', command, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(carrier.stdout, 'data');
    ip('-n', hub, 'link', 'add', aside, 'type', 'bridge');
    for (const [device, master] of [
      [near, aside],
      [far, 'hub'],
      [port, aside],
    ] as const)
      ip('-n', hub, 'link', 'set', 'dev', device, 'master', master, 'up');
    ip('-n', hub, 'link', 'set', aside, 'up');
    return () => {
      ip('-n', hub, 'link', 'set', 'dev', port, 'master', 'hub');
      carrier.kill('SIGKILL');
      ip('-n', hub, 'link', 'del', aside);
    };
  }

  close(): void {
    // before its other end: a namespace takes its devices along at a time of its own
    if (existsSync(`/sys/class/net/${this.#cable}`)) ip('link', 'del', this.#cable);
    for (const name of [...this.#hosts, `${this.#prefix}hub`]) removeNamespace(name);
    if (existsSync(RESOLVERS) && readdirSync(RESOLVERS).length === 0) rmdirSync(RESOLVERS);
  }
}
