/** One local stack for all tests of a mocha run: tiny-facts on one, two and four ranks. Load with `--require`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startStack, type Stack } from '@patchbay/cli/stack';
import { Patchbay } from '@patchbay/sdk';

/** The checkout. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** The trained model of the checkout. */
export const TINY_FACTS = join(ROOT, 'models/tiny-facts');
/** Tensor-parallel sizes that every conformance case runs on. */
export const MESHES = [1, 2, 4] as const;

/** Name of the deployment of tiny-facts on this many ranks. */
export const deploymentOf = (tp: number): string => `facts-tp${tp}`;

let running: { readonly stack: Stack; readonly home: string } | undefined;

/** The stack of this run. */
export function sharedStack(): Stack {
  if (running === undefined) throw new Error('run mocha with --require tests/support/stack.ts');
  return running.stack;
}

/** A client of it; the caller closes it. */
export function connect(): Patchbay {
  const { redisUrl, http, token } = sharedStack().info;
  return new Patchbay({ redisUrl, httpUrl: http, token });
}

export async function mochaGlobalSetup(): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), 'pb-'));
  const stack = await startStack({ home, onProgress: (text) => void process.stderr.write(`  ${text}\n`) });
  running = { stack, home };
  try {
    await using client = connect();
    for (const tp of MESHES) await client.models.deploy({ name: deploymentOf(tp), model: TINY_FACTS, tp });
  } catch (problem) {
    await mochaGlobalTeardown(); // mocha does not call it after a failed set-up
    throw problem;
  }
}

export async function mochaGlobalTeardown(): Promise<void> {
  await running?.stack.stop();
  if (running !== undefined) rmSync(running.home, { recursive: true, force: true });
}
