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
/** Deployments of tiny-facts, by name: the meshes that every conformance case runs on. */
export const DEPLOYMENTS = {
  'facts-tp1': { tp: 1 },
  'facts-tp2': { tp: 2 },
  'facts-tp4': { tp: 4 },
  'facts-dp2': { dp: 2 },
  'facts-pp2-tp2': { pp: 2, tp: 2 },
} as const;

/** While one file of tests is written: the deployments that it needs, `PATCHBAY_TEST_DEPLOYMENTS=facts-tp1,facts-tp2`. */
const ONLY = process.env['PATCHBAY_TEST_DEPLOYMENTS']?.split(',');

/** What the operator of this stack has set. */
export const OPERATOR = { sandboxMinimum: 'filtered', sandboxMaxEditMemoryBytes: 2 ** 34 } as const;

/** The folder of this stack's state. */
export function stackHome(): string {
  sharedStack();
  return running!.home;
}

/** Name of the deployment of tiny-facts on this many shards. */
export const deploymentOf = (tp: 1 | 2 | 4): string => `facts-tp${tp}`;

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
  const stack = await startStack({ home, ...OPERATOR, onProgress: (text) => void process.stderr.write(`  ${text}\n`) });
  running = { stack, home };
  try {
    await using client = connect();
    for (const [name, mesh] of Object.entries(DEPLOYMENTS))
      if (ONLY === undefined || ONLY.includes(name)) await client.models.deploy({ name, model: TINY_FACTS, ...mesh });
  } catch (problem) {
    await mochaGlobalTeardown(); // mocha does not call it after a failed set-up
    throw problem;
  }
}

export async function mochaGlobalTeardown(): Promise<void> {
  await running?.stack.stop();
  if (running !== undefined) rmSync(running.home, { recursive: true, force: true });
}
