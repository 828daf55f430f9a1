/** Brings a job into a phase, so that a fault can hit it there. Not here: the fault (strike.ts). */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isPatchbayError, isTerminal, type JobEvent } from '@patchbay/protocol';
import type { JobHandle } from '@patchbay/sdk';
import { TINY_FACTS } from '../support/stack.js';
import type { ScriptOrder, Seen } from './script.js';
import { specOf, type Kind } from './specs.js';
import { exists, ranksOf, type Scene } from './victims.js';

export const PHASES = [
  'queued',
  'placing',
  'loading',
  'in an edit',
  'in collectives',
  'in generation',
  'writing',
  'just finished',
] as const;
export type Phase = (typeof PHASES)[number];

export const KIND_OF: Record<Phase, Kind> = {
  queued: 'slow edit',
  placing: 'slow edit',
  loading: 'slow edit',
  'in an edit': 'slow edit',
  'in collectives': 'collectives',
  'in generation': 'generation',
  writing: 'large',
  'just finished': 'slow edit',
};

/** A job in its phase. */
export interface Staged {
  readonly job: JobHandle;
  readonly model: string;
  /** The process of a user's script that follows it, and what that has seen when it ends by itself. */
  readonly script: { readonly child: ChildProcess; readonly seen: Promise<Seen | undefined> } | undefined;
  /** Other jobs that must come to an end. */
  readonly before: readonly JobHandle[];
  /** Takes away what was put up for the phase. */
  readonly clean: () => Promise<void>;
}

const LOADING_LIMIT_MS = 60_000;
const nothing = (): Promise<void> => Promise.resolve();

/** @param byScript - a process of its own submits and follows the job */
export async function stage(scene: Scene, phase: Phase, byScript: boolean): Promise<Staged> {
  const { model, clean } = phase === 'loading' ? await beginLoading(scene) : { model: scene.model, clean: nothing };
  if (phase === 'placing') await loseGang(scene);
  const before = phase === 'queued' ? [await scene.client.jobs.submit(specOf('slow edit', model))] : [];
  const kind = KIND_OF[phase];
  const script = byScript ? await startScript(scene, kind, model) : undefined;
  const job = script?.job ?? (await scene.client.jobs.submit(specOf(kind, model)));
  await reached(scene, job, phase);
  return { job, model, script, before, clean };
}

/** The gang is lost, by its last rank, just before the job comes. */
async function loseGang(scene: Scene): Promise<void> {
  for (const end = Date.now() + LOADING_LIMIT_MS; ; await sleep(100)) {
    const rank = (await ranksOf(scene, scene.model)).filter(exists).at(-1);
    if (rank !== undefined) return void process.kill(rank, 'SIGKILL');
    if (Date.now() > end) throw new Error(`${scene.model} has no ranks that could be lost`);
  }
}

/** A deployment of its own that is only just being made, and is there for jobs already. */
async function beginLoading(scene: Scene): Promise<{ model: string; clean: () => Promise<void> }> {
  const model = `loading-${randomUUID().slice(0, 8)}`;
  const progress = scene.client.models.deploy({ name: model, model: TINY_FACTS, tp: 2 });
  // a fault may end the request, not the wish
  void (async () => progress)().catch(() => undefined);
  for (const end = Date.now() + LOADING_LIMIT_MS; Date.now() < end; await sleep(20)) {
    const known = await scene.client.models.list();
    if (known.some(({ spec }) => spec.name === model)) break;
  }
  await takesJobs(scene, model);
  return { model, clean: async () => void (await scene.client.models.undeploy(model)) };
}

/** It is listed a moment before it stands in Redis, where submissions look. */
async function takesJobs({ client }: Scene, model: string): Promise<void> {
  for (let tries = 0; ; tries++, await sleep(20)) {
    try {
      await (await client.jobs.submit(specOf('short', model))).cancel();
      return;
    } catch (cause) {
      if (!isPatchbayError(cause, 'PB_MODEL_NOT_FOUND') || tries === 100) throw cause;
    }
  }
}

async function startScript(
  { stack, client }: Scene,
  kind: Kind,
  model: string,
): Promise<NonNullable<Staged['script']> & { readonly job: JobHandle }> {
  const { redisUrl, http: httpUrl, token } = stack.info;
  const jobId = randomUUID();
  const order: ScriptOrder = { redisUrl, httpUrl, token, jobId, kind, model };
  const path = join(dirname(fileURLToPath(import.meta.url)), 'script.ts');
  const child = spawn(process.execPath, ['--import', 'tsx', path, JSON.stringify(order)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const seen = text(child.stdout).then((line) => (line === '' ? undefined : (JSON.parse(line) as Seen)));
  const job = client.jobs.get(jobId);
  while (child.exitCode === null && (await job.status().catch(() => undefined)) === undefined) await sleep(20);
  return { child, seen, job };
}

const HAS_REACHED: Partial<Record<Phase, (event: JobEvent) => boolean>> = {
  placing: (event) => event.type === 'state' && event.state === 'placing',
  loading: (event) => event.type === 'state' && event.state === 'placing',
  'in an edit': (event) => event.type === 'state' && event.state === 'running',
  'in collectives': (event) => event.type === 'token' && event.step > 2,
  'in generation': (event) => event.type === 'token',
};

async function reached(scene: Scene, job: JobHandle, phase: Phase): Promise<void> {
  if (phase === 'queued') return;
  if (phase === 'writing') return somethingArrives(scene, job);
  for await (const event of job.events()) {
    if (HAS_REACHED[phase]?.(event) === true) return;
    if (event.type === 'state' && isTerminal(event.state)) return;
  }
}

/** Results are written aside before they get their name. */
async function somethingArrives({ home }: Scene, job: JobHandle): Promise<void> {
  for (;;) {
    for (let look = 0; look < 50; look++, await sleep(2))
      if (readdirSync(join(home, 'artifacts/incoming')).length > 0) return;
    if (isTerminal((await job.status()).state)) return;
  }
}
