/** Which sandbox level this machine reaches: the worker's own self-test, with real attacks, without a stack. @module */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { SANDBOX_LEVELS, errorJson } from '@patchbay/protocol';
import { z } from 'zod';
import { installation } from '../installation.js';
import { LEVELS } from '../levels.js';
import type { Check } from './diagnose.js';

const run = promisify(execFile);
const LIMIT_MS = 120_000;

const answer = z.object({
  level: z.enum(SANDBOX_LEVELS),
  probes: z.array(
    z.object({ name: z.string(), ok: z.boolean(), reason: z.string().optional(), fix: z.string().optional() }),
  ),
  refusal: errorJson.nullable(),
});

/** `python` has the worker's packages, as the set-up makes it. */
export async function sandboxSelfTest(python: string): Promise<Check> {
  const name = 'sandbox';
  try {
    const { stdout } = await run(python, ['-m', 'patchbay_worker.sandbox.level'], { timeout: LIMIT_MS });
    const { level, probes, refusal } = answer.parse(JSON.parse(stdout));
    const failed = probes.filter(({ ok }) => !ok);
    const why = failed.map((probe) => [probe.name, probe.reason].filter(Boolean).join(': ')).join('; ');
    const fixes = [...new Set(failed.flatMap(({ fix }) => fix ?? []))].join(' ');
    if (refusal !== null) return { name, status: 'fail', found: refusal.message, fix: refusal.hint ?? undefined };
    return {
      name,
      status: level === 'trusted' || failed.length > 0 ? 'warn' : 'ok',
      found: `${level}: ${LEVELS[level] ?? ''}`,
      fix: failed.length > 0 ? `failed probes: ${why}. ${fixes}` : undefined,
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n').slice(0, 2).join(' ') : String(cause);
    return { name, status: 'fail', found: `its self-test did not run: ${reason}`, fix: `Run ${installation.setup}.` };
  }
}
