/** Verdicts on what a machine has: wheels, GPU, clock, Ray. Pure: what was found comes from the callers. @module */
import { installation } from '../installation.js';
import type { Check } from './diagnose.js';

const CLOCK_MS = 1_000;

export interface PythonFacts {
  readonly machine: string;
  /** `glibc 2.36`, or empty where it is another C library. */
  readonly libc: string;
  /** CUDA version that torch was built for; null for a CPU build; undefined when torch is missing. */
  readonly torchCuda?: string | null | undefined;
}

/** Everything comes as wheels, so that no compiler is needed; torch and Ray have none for musl or 32 bits. */
export function wheelCheck({ machine, libc }: PythonFacts): Check {
  const name = 'wheels';
  const known = /^(x86_64|amd64|aarch64|arm64)$/i.test(machine);
  const mac = process.platform === 'darwin';
  if (known && (mac || libc.startsWith('glibc')))
    return { name, status: 'ok', found: `${machine}, ${libc || 'macOS'}: no compiler is needed` };
  const found = `${machine || 'unknown machine'}, ${libc || 'no glibc'}: torch and Ray have no wheels for it`;
  return {
    name,
    status: 'fail',
    found,
    fix: 'Use a glibc distribution on x86_64 or aarch64 (Debian, Ubuntu; not Alpine).',
  };
}

export function gpuCheck({ torchCuda }: PythonFacts, gpus: readonly string[]): Check {
  const name = 'gpu';
  if (gpus.length === 0) return { name, status: 'info', found: 'none; models run on the CPU' };
  const found = `${gpus.length} (${[...new Set(gpus)].join(', ')})`;
  if (torchCuda != null) return { name, status: 'ok', found: `${found}, torch for CUDA ${torchCuda}` };
  const fix = `Install the CUDA build of torch: unset PIP_EXTRA_INDEX_URL, delete ${installation.venv}, run ${installation.setup}.`;
  return { name, status: 'warn', found: `${found}, but torch is built without CUDA and will not use it`, fix };
}

/** Leases, tickets and ages compare times of Redis, Node and the browser. */
export function clockCheck(aheadMs: number | undefined): Check {
  const name = 'clock';
  if (aheadMs === undefined) return { name, status: 'info', found: 'not compared: no Redis to ask' };
  const seconds = (Math.abs(aheadMs) / 1000).toFixed(1);
  if (Math.abs(aheadMs) <= CLOCK_MS) return { name, status: 'ok', found: `within ${seconds} s of Redis` };
  const found = `${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} Redis`;
  return { name, status: 'warn', found, fix: 'Synchronise both machines: timedatectl set-ntp true.' };
}

const version = (text: string): string => text.split('.').slice(0, 2).join('.');

/** Ray refuses a driver of another version. */
export function rayVersionCheck(own: string | undefined, cluster: string | undefined, address: string): Check {
  const name = 'ray version';
  if (own === undefined || cluster === undefined)
    return {
      name,
      status: 'fail',
      found: `${address} does not answer`,
      fix: 'Start the cluster, or correct RAY_ADDRESS; unset it to use an own one.',
    };
  if (version(own) === version(cluster)) return { name, status: 'ok', found: `${own} here, ${cluster} at ${address}` };
  const fix = `Install ray==${cluster} here, or ${own} on the cluster.`;
  return { name, status: 'fail', found: `${own} here, but ${cluster} at ${address}`, fix };
}

export function portCheck(port: number | undefined, free: boolean): Check {
  const name = 'http port';
  if (port === undefined) return { name, status: 'info', found: 'a free one is chosen' };
  if (free) return { name, status: 'ok', found: `${port} is free` };
  return {
    name,
    status: 'fail',
    found: `${port} is taken`,
    fix: 'Set another PATCHBAY_HTTP_PORT, or end what listens there; a running stack of yours counts too.',
  };
}
