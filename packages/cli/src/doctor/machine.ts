/** Is this machine fit for a local stack: Node, Python, packages, Redis, ports, memory, disk. @module */
import { execFile } from 'node:child_process';
import { existsSync, statfsSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { isPatchbayError } from '@patchbay/protocol';
import { installation } from '../installation.js';
import type { Config } from '../config.js';
import { stackPaths } from '../stack/paths.js';
import { accepts, freePorts, isFree } from '../processes/ports.js';
import { findRedisBinary, inspectRedis, redisProblem, withoutPassword } from '../stack/redis.js';
import type { Check } from './diagnose.js';
import { gpuCheck, portCheck, rayVersionCheck, wheelCheck, type PythonFacts } from './hardware.js';

const run = promisify(execFile);
const SETUP = `Run ${installation.setup}.`;
const NODE = [20, 19] as const;
const PYTHON = [3, 11] as const;
/** Distributions whose absence would show late, as an import error in some log. */
const PACKAGES = ['ray', 'torch', 'transformers', 'accelerate', 'safetensors', 'grpcio', 'numpy'] as const;
const SHARED_MEMORY_BYTES = 512e6;
const DISK_BYTES = 2e9;
const MEMORY_BYTES = 3e9;

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

function atLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [a = 0, b = 0] = version.split('.').map(Number);
  return a > major || (a === major && b >= minor);
}

export function nodeCheck(version: string): Check {
  const ok = atLeast(version, NODE);
  return {
    name: 'node',
    status: ok ? 'ok' : 'fail',
    found: version,
    fix: ok ? undefined : `Install Node ${NODE.join('.')} or newer.`,
  };
}

/** Names of NVIDIA's GPUs; none without a driver. */
async function gpus(): Promise<string[]> {
  try {
    const { stdout } = await run('nvidia-smi', ['--query-gpu=name', '--format=csv,noheader'], { timeout: 5_000 });
    return stdout.split('\n').filter((line) => line.trim() !== '');
  } catch {
    return [];
  }
}

async function pythonChecks(python: string): Promise<Check[]> {
  const script = `import json, platform, importlib.metadata as m
def cuda():
    try:
        import torch.version as v
        return v.cuda
    except ImportError: return None
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
print(json.dumps({"python": platform.python_version(), "machine": platform.machine(), "libc": " ".join(platform.libc_ver()).strip(), "torchCuda": cuda(), "packages": {n: version(n) for n in ${JSON.stringify(PACKAGES)}}}))`;
  try {
    const { stdout } = await run(python, ['-c', script], { timeout: 30_000 });
    const facts = JSON.parse(stdout) as PythonFacts & { python: string; packages: Record<string, string | null> };
    const { python: version, packages } = facts;
    const missing = PACKAGES.filter((name) => packages[name] == null);
    const ok = atLeast(version, PYTHON);
    return [
      {
        name: 'python',
        status: ok ? 'ok' : 'fail',
        found: `${version} (${python})`,
        fix: ok
          ? undefined
          : `Install Python ${PYTHON.join('.')} or newer, delete ${installation.venv}, run ${installation.setup}.`,
      },
      {
        name: 'python packages',
        status: missing.length === 0 ? 'ok' : 'fail',
        found:
          missing.length === 0
            ? PACKAGES.map((name) => `${name} ${packages[name]}`).join(', ')
            : `missing: ${missing.join(', ')}`,
        fix: missing.length === 0 ? undefined : SETUP,
      },
      wheelCheck(facts),
      gpuCheck(facts, await gpus()),
    ];
  } catch (problem) {
    const found = existsSync(python)
      ? `${python} cannot be run: ${(problem as Error).message.split('\n')[0]}`
      : `${python} is missing`;
    return [{ name: 'python', status: 'fail', found, fix: `${SETUP} Or set PATCHBAY_PYTHON.` }];
  }
}

/** The versions here and at a cluster that was given; its GCS tells without a driver. */
async function rayCheck({ rayAddress, python }: Config): Promise<Check[]> {
  if (rayAddress === undefined) return [];
  const script = `import json, sys, ray
from ray._raylet import GcsClient
told = GcsClient(address=sys.argv[1]).internal_kv_get(b"CLUSTER_METADATA", b"cluster")
print(json.dumps([ray.__version__, json.loads(told)["ray_version"]]))`;
  const address = rayAddress.replace(/^ray:\/\//, '');
  const [host = '', port = ''] = address.split(':');
  if (!(await accepts(host, Number(port)))) return [rayVersionCheck(undefined, undefined, rayAddress)];
  // A Ray client's port knows no GCS: what it does not tell is told by the first deployment.
  if (address !== rayAddress) return [];
  const versions = await run(python, ['-c', script, address], { timeout: 15_000 }).then(
    ({ stdout }) => JSON.parse(stdout) as [string, string],
    () => [undefined, undefined] as const,
  );
  return [rayVersionCheck(versions[0], versions[1], rayAddress)];
}

async function redisCheck({ redisUrl, python }: Config): Promise<Check> {
  if (redisUrl === undefined) {
    const binary = await findRedisBinary(python);
    if (binary !== undefined)
      return {
        name: 'redis',
        status: 'ok',
        found: `${binary.version} (${binary.path}), noeviction, started by the stack`,
      };
    return {
      name: 'redis',
      status: 'fail',
      found: 'no redis-server or valkey-server 6.2 or newer',
      fix: `${SETUP} Or set PATCHBAY_REDIS_URL.`,
    };
  }
  try {
    const report = await inspectRedis(redisUrl);
    const problem = redisProblem(report);
    const found = `${report.version} at ${withoutPassword(redisUrl)}, ${report.policy ?? 'policy unknown'}`;
    return {
      name: 'redis',
      status: problem === undefined ? 'ok' : 'fail',
      found: problem ?? found,
      fix: problem === undefined ? undefined : 'Use another Redis, or none: the stack then starts its own.',
    };
  } catch (cause) {
    if (!isPatchbayError(cause)) throw cause;
    return {
      name: 'redis',
      status: 'fail',
      found: cause.message,
      fix: 'Start it, correct PATCHBAY_REDIS_URL, or unset it: the stack then starts its own.',
    };
  }
}

async function portsCheck(): Promise<Check> {
  try {
    await freePorts(8);
    return { name: 'ports', status: 'ok', found: 'free ones are there' };
  } catch (problem) {
    return { name: 'ports', status: 'fail', found: (problem as Error).message, fix: 'End what holds so many ports.' };
  }
}

function freeBytes(path: string): number | undefined {
  let folder = path;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

export function spaceCheck(name: string, free: number | undefined, wanted: number, fix: string): Check {
  if (free === undefined) return { name, status: 'info', found: 'not known on this system' };
  const ok = free >= wanted;
  return { name, status: ok ? 'ok' : 'warn', found: `${gigabytes(free)} free`, fix: ok ? undefined : fix };
}

function buildCheck(): Check {
  const built = existsSync(installation.orchestrator);
  return {
    name: 'build',
    status: built ? 'ok' : 'fail',
    found: built ? 'orchestrator is built' : `${installation.orchestrator} is missing`,
    fix: built ? undefined : SETUP,
  };
}

export async function machineChecks(config: Config): Promise<Check[]> {
  return [
    nodeCheck(process.versions.node),
    ...(await pythonChecks(config.python)),
    buildCheck(),
    await redisCheck(config),
    ...(await rayCheck(config)),
    await portsCheck(),
    portCheck(config.httpPort, config.httpPort === undefined || (await isFree(config.httpPort))),
    spaceCheck(
      'shared memory',
      existsSync('/dev/shm') ? freeBytes('/dev/shm') : undefined,
      SHARED_MEMORY_BYTES,
      'Give the container more /dev/shm: docker run --shm-size=2g.',
    ),
    spaceCheck(
      'memory',
      freemem(),
      MEMORY_BYTES,
      `A stack with a small model on two ranks needs about ${gigabytes(MEMORY_BYTES)}; this machine has ${gigabytes(totalmem())}.`,
    ),
    spaceCheck(
      'disk',
      freeBytes(stackPaths(config.home).home),
      DISK_BYTES,
      `Free some space for results, or set PATCHBAY_HOME to another disk.`,
    ),
  ];
}
