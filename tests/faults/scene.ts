/** A stack of its own for faults, so that no other test meets what they leave. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startStack } from '@patchbay/cli/stack';
import { Patchbay } from '@patchbay/sdk';
import { TINY_FACTS } from '../support/stack.js';
import type { Scene } from './victims.js';

export async function withScene(act: (scene: Scene) => Promise<void>): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), 'pb-faults-'));
  try {
    await using stack = await startStack({ home, model: TINY_FACTS, name: 'facts', tp: 2 });
    const { redisUrl, http, token } = stack.info;
    await using client = new Patchbay({ redisUrl, httpUrl: http, token });
    await act({ stack, client, home, model: 'facts' });
  } finally {
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
