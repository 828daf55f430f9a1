/** The two services of a stack: the gateway (Python, the Ray driver) and the orchestrator (Node). @module */
import { existsSync } from 'node:fs';
import { error } from '@patchbay/protocol';
import { installation } from '../installation.js';
import { GuardedProcess, type CommandOptions } from '../processes/guarded-process.js';
import type { StackPaths } from './paths.js';
import { waitFor } from '../processes/wait.js';

const GATEWAY_TIMEOUT_MS = 90_000;
const ORCHESTRATOR_TIMEOUT_MS = 30_000;

export interface ServiceOptions {
  readonly paths: StackPaths;
  readonly python: string;
  readonly port: number;
  readonly env: NodeJS.ProcessEnv;
}

/** Whether it is ready: it, and not something else at its port. */
type Probe = (started: GuardedProcess) => Promise<boolean>;

async function startProbed(
  options: CommandOptions,
  probe: Probe,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<GuardedProcess> {
  const started = await GuardedProcess.start(options);
  try {
    const answer = await waitFor(
      async () => (started.ended !== undefined ? false : (await probe(started)) || undefined),
      {
        timeoutMs,
        signal,
      },
    );
    if (answer === true) return started;
    throw started.failure(started.ended ?? `not ready within ${timeoutMs / 1000} s`);
  } catch (problem) {
    await started.kill();
    throw problem;
  }
}

/** Ready when it listens; that it has its Ray is told by the orchestrator's health. */
export function startGateway(
  { paths, python, port, env, foreignRay = false }: ServiceOptions & { readonly foreignRay?: boolean },
  signal: AbortSignal,
): Promise<GuardedProcess> {
  const command = [python, '-m', 'patchbay_worker.gateway', '--port', String(port)];
  const options = {
    name: 'gateway',
    command,
    env,
    log: paths.log('gateway'),
    python,
    graceSeconds: foreignRay ? 45 : 5,
  };
  const listens = async (started: GuardedProcess): Promise<boolean> =>
    started.hasSaid(`listening on 127.0.0.1:${port}`);
  return startProbed(options, listens, GATEWAY_TIMEOUT_MS, signal);
}

export interface Health {
  readonly status: string;
  readonly sandboxLevel: string | undefined;
  readonly parts: Readonly<Record<string, unknown>>;
}

/** The orchestrator's own word; undefined when it does not answer. */
export async function health(http: string, timeoutMs = 2000): Promise<Health | undefined> {
  try {
    const response = await fetch(new URL('/healthz', http), { signal: AbortSignal.timeout(timeoutMs) });
    const body = (await response.json()) as Partial<Health>;
    return { status: body.status ?? 'unknown', sandboxLevel: body.sandboxLevel ?? undefined, parts: body.parts ?? {} };
  } catch {
    return undefined;
  }
}

/** `ok` and the like of one part in a health report. */
export function partStatus(report: Health, part: string): string | undefined {
  const value = report.parts[part];
  return typeof value === 'object' && value !== null && 'status' in value ? String(value.status) : undefined;
}

/** Ready when it answers and has its Redis. */
export async function startOrchestrator(
  { paths, python, port, env }: ServiceOptions,
  signal: AbortSignal,
): Promise<GuardedProcess> {
  if (!existsSync(installation.orchestrator)) {
    const reason = `${installation.orchestrator} is missing; run ${installation.setup}`;
    throw error('PB_STACK_START_FAILED', { part: 'orchestrator', reason, log: paths.log('orchestrator') });
  }
  const command = [process.execPath, '--max-semi-space-size=32', installation.orchestrator];
  const options = { name: 'orchestrator', command, env, log: paths.log('orchestrator'), python, graceSeconds: 10 };
  const host = env['PATCHBAY_HTTP_HOST'] ?? '127.0.0.1';
  const http = `http://${host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host}:${port}`;
  const probe = async (started: GuardedProcess): Promise<boolean> => {
    if (!started.hasSaid('"ready":true')) return false;
    const report = await health(http);
    return report !== undefined && partStatus(report, 'redis') === 'ok';
  };
  return startProbed(options, probe, ORCHESTRATOR_TIMEOUT_MS, signal);
}

/** Waits until the orchestrator reaches the gateway. @throws `PB_STACK_START_FAILED` */
export async function waitForGateway(http: string, paths: StackPaths, signal: AbortSignal): Promise<Health> {
  let last: Health | undefined;
  const ready = await waitFor(
    async () => {
      last = await health(http);
      return last !== undefined && partStatus(last, 'gateway') === 'ok' ? last : undefined;
    },
    { timeoutMs: GATEWAY_TIMEOUT_MS, signal },
  );
  if (ready !== undefined) return ready;
  const reason = `the orchestrator does not reach it: ${JSON.stringify(last?.parts['gateway'] ?? null)}`;
  throw error('PB_STACK_START_FAILED', { part: 'gateway', reason, log: paths.log('gateway') });
}
