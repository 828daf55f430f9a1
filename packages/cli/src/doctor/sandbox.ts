/** Which sandbox level this machine reaches: the worker's own self-test, with real attacks, without a stack. @module */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { SANDBOX_LEVELS, errorJson } from '@patchbay/protocol';
import { z } from 'zod';
import { sandboxEnvironment, type Config } from '../config.js';
import { installation } from '../installation.js';
import { LEVELS } from './levels.js';
import type { Check } from './diagnose.js';

const run = promisify(execFile);
const LIMIT_MS = 120_000;
/** As in the worker's settings.py. */
const DEFAULT_MINIMUM = 'confined';
/** As in the worker's level/choose.py. */
const CGROUP = 'cgroup';

/** Part of a probe of the self-test. */
interface Told {
  readonly name?: string | null | undefined;
  readonly ok?: boolean | null | undefined;
  readonly reason?: string | null | undefined;
}

/** The level in words, and what holds memory and threads besides the limits of the process; no level asks for that. */
export function levelText(level: string, probes: readonly Told[]): string {
  const cgroup = probes.find(({ name }) => name === CGROUP);
  const held =
    cgroup?.ok === true ? 'memory and threads also by a cgroup' : `no cgroup (${cgroup?.reason ?? 'not tried'})`;
  return `${level}: ${LEVELS[level] ?? ''}; ${held}`;
}

/** The probes that say why the level is no better. */
export function failedProbes<T extends Told>(probes: readonly T[]): T[] {
  return probes.filter(({ name, ok }) => ok === false && name !== CGROUP);
}

const answer = z.object({
  level: z.enum(SANDBOX_LEVELS),
  probes: z.array(
    z.object({ name: z.string(), ok: z.boolean(), reason: z.string().optional(), fix: z.string().optional() }),
  ),
  refusal: errorJson.nullable(),
});

/** Under the settings that a stack would start with: level and minimum are the operator's. */
export async function sandboxSelfTest(config: Pick<Config, 'python' | 'sandboxMinimum'>): Promise<Check> {
  const name = 'sandbox';
  try {
    const env = { ...process.env, ...sandboxEnvironment(config) };
    const { stdout } = await run(config.python, ['-m', 'patchbay_worker.sandbox.level'], { timeout: LIMIT_MS, env });
    const { level, probes, refusal } = answer.parse(JSON.parse(stdout));
    const failed = failedProbes(probes);
    const why = failed.map((probe) => [probe.name, probe.reason].filter(Boolean).join(': ')).join('; ');
    const fixes = [...new Set(failed.flatMap(({ fix }) => fix ?? []))].join(' ');
    if (refusal !== null) return { name, status: 'fail', found: refusal.message, fix: refusal.hint ?? undefined };
    return {
      name,
      status: level === 'trusted' || failed.length > 0 ? 'warn' : 'ok',
      found: `${levelText(level, probes)}; edits are refused below ${config.sandboxMinimum ?? DEFAULT_MINIMUM}`,
      fix: failed.length > 0 ? `failed probes: ${why}. ${fixes}` : undefined,
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n').slice(0, 2).join(' ') : String(cause);
    return { name, status: 'fail', found: `its self-test did not run: ${reason}`, fix: `Run ${installation.setup}.` };
  }
}
