/** One fault: a job is brought into a phase, a process is hit, and everything that must hold afterwards is checked. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPatchbayError, isTerminal, type JobEvent, type JobState } from '@patchbay/protocol';
import { HookFunction, type JobHandle } from '@patchbay/sdk';
import { checkLog } from './invariants.js';
import { exists, find, rankPids, type Scene, type Victim } from './victims.js';

export const BLOWS = ['kill', 'stop'] as const;
export type Blow = (typeof BLOWS)[number];
export const PHASES = ['queued', 'in an edit', 'in generation', 'just finished'] as const;
export type Phase = (typeof PHASES)[number];

export interface Fault {
  readonly victim: Victim;
  readonly blow: Blow;
  readonly phase: Phase;
}

export interface Outcome {
  readonly state: JobState;
  readonly attempts: number;
  readonly code: string | undefined;
  /** From the blow to the result of the next job. */
  readonly recoveryMs: number;
}

export const nameOf = ({ victim, blow, phase }: Fault): string => `${victim}: ${blow} while ${phase}`;

/** Longer than the lease of a job. */
const STOPPED_MS = 7_000;
const END_LIMIT_MS = 120_000;
const TOKENS = 60;

/** A job with an effect that can be counted. */
function slowEdit(scene: Scene): Promise<JobHandle> {
  const hook = new HookFunction({
    moduleName: 'model.layers.2.mlp.gate_proj',
    editingFunction: `
import time
def edit(current_module, inputs, save_ctx, modules):
    time.sleep(1.0)
    save_ctx.effects = getattr(save_ctx, "effects", 0) + 1
    return inputs * 0.5`,
  });
  const run = { inputs: { text: ['The capital of France is'] }, hooks: [hook], return: { topK: 1 } } as const;
  return scene.client.jobs.submit({ model: scene.model, runs: [run] });
}

function generation(scene: Scene): Promise<JobHandle> {
  const run = { mode: 'generate', inputs: { text: ['The capital of France is'] }, maxNewTokens: TOKENS } as const;
  return scene.client.jobs.submit({ model: scene.model, runs: [run] });
}

/** Repeats what Redis or a service was away for. */
async function patiently<T>(what: () => Promise<T>): Promise<T> {
  const end = Date.now() + END_LIMIT_MS;
  for (;;) {
    try {
      return await what();
    } catch (cause) {
      const away = isPatchbayError(cause) && cause.retryable && cause.code !== 'PB_WAIT_TIMEOUT';
      if (!away || Date.now() > end) throw cause;
      await sleep(100);
    }
  }
}

async function reached(job: JobHandle, phase: Phase): Promise<void> {
  if (phase === 'queued') return;
  for await (const event of job.events()) {
    if (phase === 'in generation' ? event.type === 'token' : false) return;
    if (phase === 'in an edit' && event.type === 'state' && event.state === 'running') return;
    if (event.type === 'state' && isTerminal(event.state)) return;
  }
}

async function ended(job: JobHandle): Promise<Awaited<ReturnType<JobHandle['status']>>> {
  await patiently(async () => {
    for await (const event of job.events()) if (event.type === 'state' && isTerminal(event.state)) return;
  });
  return patiently(() => job.status());
}

async function logOf(job: JobHandle): Promise<JobEvent[]> {
  const events = [];
  for await (const event of job.events({ follow: false })) events.push(event);
  return events;
}

/** What an edit's own process may fail a job with when it is hit. */
const OF_THE_SANDBOX = ['PB_EDIT_CRASHED', 'PB_SANDBOX_FAILED', 'PB_EDIT_TIMEOUT'];

async function checkJob(job: JobHandle, fault: Fault): Promise<Omit<Outcome, 'recoveryMs'>> {
  const status = await ended(job);
  const events = await patiently(() => logOf(job));
  const state = checkLog(job.id, events);
  assert.equal(state, status.state, 'record and log agree');
  if (state === 'completed') {
    const result = await patiently(() => job.result());
    assert.equal(result.json.attempt, status.attempt, 'the result is of the attempt that counts');
    if (fault.phase === 'in generation') assert.ok(result.json.runs['run-0'], 'tokens are there');
    else assert.equal(result.json.saveCtx['effects'], 1, 'the effect happened once');
  } else {
    const hit = fault.victim === 'sandbox' || fault.victim === 'zygote';
    assert.ok(state === 'failed' && hit && OF_THE_SANDBOX.includes(status.error?.code ?? ''), JSON.stringify(status));
  }
  return { state, attempts: status.attempt, code: status.error?.code };
}

/** Hits one process. @returns undefined when there is no such process in this phase */
export async function strike(scene: Scene, fault: Fault): Promise<Outcome | undefined> {
  const blocker = fault.phase === 'queued' ? await slowEdit(scene) : undefined;
  const job = await (fault.phase === 'in generation' ? generation(scene) : slowEdit(scene));
  await reached(job, fault.phase);
  const pid = await find(scene, fault.victim);
  const before = await rankPids(scene);
  const struck = performance.now();
  if (pid === undefined) {
    await ended(job);
    return undefined;
  }
  process.kill(pid, fault.blow === 'kill' ? 'SIGKILL' : 'SIGSTOP');
  const woken =
    fault.blow === 'stop' ? sleep(STOPPED_MS).then(() => exists(pid) && process.kill(pid, 'SIGCONT')) : undefined;
  const outcome = await checkJob(job, fault);
  if (blocker !== undefined) await ended(blocker);
  await woken;
  const next = await patiently(() => slowEdit(scene));
  const { state } = await ended(next);
  assert.equal(state, 'completed', 'the next job runs');
  const recoveryMs = Math.round(performance.now() - struck);
  const now = await patiently(() => rankPids(scene));
  for (const old of before)
    assert.ok(now.includes(old) || !exists(old), `rank process ${old} of an earlier epoch is left`);
  return { ...outcome, recoveryMs };
}
