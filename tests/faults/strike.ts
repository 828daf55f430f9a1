/** One fault: a job is brought into a phase, a process is hit, and everything that must hold afterwards is checked. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPatchbayError, isTerminal, type JobEvent, type JobState, type JobStatus } from '@patchbay/protocol';
import type { JobHandle } from '@patchbay/sdk';
import { deal, type Blow } from './blows.js';
import { checkLog } from './invariants.js';
import { KIND_OF, stage, type Phase, type Staged } from './phases.js';
import type { Stage } from './scene.js';
import type { Seen } from './script.js';
import { answerOf, specOf } from './specs.js';
import { RANK, SUPERVISOR, exists, find, ours, ranksOf, type Scene, type Victim } from './victims.js';

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
  /** Of that, what was neither the blow itself nor the loading of what it destroyed. */
  readonly besidesMs: number;
}

export const nameOf = ({ victim, blow, phase }: Fault): string => `${victim}: ${blow} while ${phase}`;

const END_LIMIT_MS = 120_000;
/** Processes of an earlier epoch may take this long to go. */
const LEAVE_LIMIT_MS = 20_000;
/** What an edit's own process may fail a job with when it is hit. */
const OF_THE_SANDBOX = ['PB_EDIT_CRASHED', 'PB_SANDBOX_FAILED', 'PB_EDIT_TIMEOUT'];

/** Repeats what Redis or a service was away for. */
export async function patiently<T>(what: () => Promise<T>): Promise<T> {
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

async function ended(job: JobHandle): Promise<JobStatus> {
  const signal = AbortSignal.timeout(END_LIMIT_MS);
  await patiently(async () => {
    for await (const event of job.events({ signal })) if (event.type === 'state' && isTerminal(event.state)) return;
  }).catch((cause: unknown) => {
    throw isPatchbayError(cause, 'PB_ABORTED') ? new Error(`${job.id} has no end after ${END_LIMIT_MS} ms`) : cause;
  });
  return patiently(() => job.status());
}

async function logOf(job: JobHandle): Promise<JobEvent[]> {
  const events = [];
  for await (const event of job.events({ follow: false })) events.push(event);
  return events;
}

/** Waits for the end of a job, whose record and log must agree. */
export async function checkEnd(job: JobHandle): Promise<{ status: JobStatus; log: readonly JobEvent[] }> {
  const status = await ended(job);
  const log = await patiently(() => logOf(job));
  assert.equal(checkLog(job.id, log), status.state, 'record and log agree');
  return { status, log };
}

async function checkJob(
  scene: Stage,
  job: JobHandle,
  { victim, phase }: Fault,
): Promise<Omit<Outcome, 'recoveryMs' | 'besidesMs'> & { log: readonly JobEvent[] }> {
  const { status, log } = await checkEnd(job);
  const { state } = status;
  if (state === 'completed') {
    const result = await patiently(() => job.result());
    assert.equal(result.json.attempt, status.attempt, 'the result is of the attempt that counts');
    // effects are counted in it, and files are named by their digests
    assert.equal(answerOf(result), scene.answers.get(KIND_OF[phase]), 'the answer is what it is without a fault');
  } else {
    const hit = victim === 'sandbox' || victim === 'zygote';
    assert.ok(state === 'failed' && hit && OF_THE_SANDBOX.includes(status.error?.code ?? ''), JSON.stringify(status));
  }
  return { state, attempts: status.attempt, code: status.error?.code, log };
}

/** A script that lives has seen every event once and in order, whatever happened to its connections. */
function checkScript(seen: Seen | undefined, log: readonly JobEvent[], { victim, blow }: Fault): void {
  if (victim === 'script' && blow === 'kill') return;
  assert.deepEqual(
    seen?.cursors,
    log.map(({ cursor }) => cursor),
    'the script has seen the log',
  );
}

/** One supervisor and its ranks per deployment are left. */
async function checkProcesses(scene: Scene): Promise<void> {
  const wanted = async (): Promise<{ ranks: number; supervisors: number }> => {
    const models = await patiently(() => scene.client.models.list());
    const sizes = models.map(({ spec: { tp, pp, dp, replicas } }) => ({ ranks: tp * pp * dp * replicas, replicas }));
    return {
      ranks: sizes.reduce((sum, { ranks }) => sum + ranks, 0),
      supervisors: sizes.reduce((sum, { replicas }) => sum + replicas, 0),
    };
  };
  for (const end = Date.now() + LEAVE_LIMIT_MS; ; await sleep(200)) {
    const now = { ranks: ours(scene, RANK).length, supervisors: ours(scene, SUPERVISOR).length };
    const expected = await wanted();
    if (JSON.stringify(now) === JSON.stringify(expected)) return;
    if (Date.now() > end) assert.deepEqual(now, expected, 'processes of earlier epochs are left');
  }
}

/** What goes down with Ray may still answer for a while: what counts is what comes after. */
async function gone(pids: readonly number[]): Promise<void> {
  for (const end = Date.now() + END_LIMIT_MS; pids.some(exists); await sleep(100))
    if (Date.now() > end) throw new Error('Ray was killed, and its ranks run on');
}

/** Hits one process. @returns undefined when there is no such process in this phase */
export async function strike(scene: Stage, fault: Fault): Promise<Outcome | undefined> {
  const old = fault.phase === 'loading' ? [...ours(scene, RANK), ...ours(scene, SUPERVISOR)] : [];
  const staged = await stage(scene, fault.phase, fault.victim === 'script');
  try {
    return await hit(scene, fault, staged, old);
  } finally {
    staged.script?.child.kill('SIGKILL');
    await patiently(staged.clean);
    await checkProcesses(scene);
  }
}

async function hit(scene: Stage, fault: Fault, staged: Staged, old: readonly number[]): Promise<Outcome | undefined> {
  const { job, model, script } = staged;
  const pid = fault.victim === 'script' ? script?.child.pid : await find(scene, fault.victim, model, old);
  if (pid === undefined || !exists(pid)) {
    await ended(job);
    return undefined;
  }
  const before = await ranksOf(scene, model);
  const struck = performance.now();
  const lasting = deal(fault.blow, pid);
  const { log, ...outcome } = await checkJob(scene, job, fault);
  for (const other of staged.before) await ended(other);
  const blowMs = await lasting;
  if (script !== undefined) checkScript(await script.seen, log, fault);
  const ray = fault.victim === 'raylet' || fault.victim === 'gcs';
  if (ray && fault.blow === 'kill') await gone(before);
  const next = await patiently(() => scene.client.jobs.submit(specOf('short', model)));
  assert.equal((await ended(next)).state, 'completed', 'the next job runs');
  const recoveryMs = Math.round(performance.now() - struck);
  const now = await patiently(() => ranksOf(scene, model));
  const reloaded = String(now) !== String(before) || fault.phase === 'placing' || fault.phase === 'loading';
  const loading = (reloaded ? scene.loadMs : 0) + (ray ? scene.startMs : 0);
  return { ...outcome, recoveryMs, besidesMs: Math.max(0, Math.round(recoveryMs - blowMs - loading)) };
}
