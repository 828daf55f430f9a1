/** A stack of its own for faults, so that no other test meets what they leave, and what its jobs answer when nothing happens. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startStack } from '@patchbay/cli/stack';
import { Patchbay } from '@patchbay/sdk';
import { TINY_FACTS } from '../support/stack.js';
import { KINDS, answerOf, specOf, type Kind } from './specs.js';
import type { Scene } from './victims.js';

const MODEL = 'facts';

/** What a stack does when nobody hits it. */
export interface Stage extends Scene {
  readonly answers: ReadonlyMap<Kind, string>;
  /** How long this machine takes to start Ray with the gateway, and to load the model. */
  readonly startMs: number;
  readonly loadMs: number;
}

/** @param keepLogs - a folder for the logs of the stack */
export async function withScene(act: (scene: Stage) => Promise<void>, keepLogs = ''): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), 'pb-faults-'));
  try {
    const begun = performance.now();
    await using stack = await startStack({ home });
    const started = performance.now();
    const { redisUrl, http, token } = stack.info;
    await using client = new Patchbay({ redisUrl, httpUrl: http, token });
    await client.models.deploy({ name: MODEL, model: TINY_FACTS, tp: 2 });
    const loadMs = performance.now() - started;
    const answers = new Map<Kind, string>();
    for (const kind of KINDS)
      answers.set(kind, answerOf(await (await client.jobs.submit(specOf(kind, MODEL))).result()));
    await act({ stack, client, home, model: MODEL, answers, startMs: started - begun, loadMs });
  } finally {
    if (keepLogs !== '') cpSync(join(home, 'logs'), keepLogs, { recursive: true });
    rmSync(home, { recursive: true, force: true });
  }
}

/** Numbers from 0 to 1 that follow from a seed. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** All of them, in an order that follows from a seed. */
export function shuffled<T>(all: readonly T[], seed: number): T[] {
  const next = random(seed);
  return all
    .map((one) => ({ one, at: next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ one }) => one);
}
