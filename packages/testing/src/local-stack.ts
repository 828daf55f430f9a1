/** A stack in a folder of its own, with a client: what one test run needs, gone without a trace afterwards. @module */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startStack, type StackOptions } from '@patchbay/cli/stack';
import { Patchbay } from '@patchbay/sdk';

export type LocalStackOptions = Omit<StackOptions, 'home' | 'redisUrl' | 'token' | 'httpPort'>;

export interface LocalStack extends AsyncDisposable {
  /** A client of this stack; closed with it. */
  readonly patchbay: Patchbay;
  /** For scripts under test that run as processes of their own. */
  readonly environment: Readonly<Record<'PATCHBAY_REDIS_URL' | 'PATCHBAY_HTTP_URL' | 'PATCHBAY_TOKEN', string>>;
  /** Ends every process and removes every file. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Starts Redis, Ray, gateway, orchestrator, and the model when one is named, beside whatever else runs on the machine;
 * takes seconds, so once per test run. A stack of the user's is neither used nor disturbed.
 * @throws what `startStack` throws: `PB_STACK_START_FAILED`, `PB_MODEL_LOAD_FAILED`, ...
 */
export async function startLocalStack(options: LocalStackOptions = {}): Promise<LocalStack> {
  const home = await mkdtemp(join(tmpdir(), 'patchbay-test-'));
  const remove = (): Promise<void> => rm(home, { recursive: true, force: true });
  const stack = await startStack({ ...options, home }).catch(async (problem: unknown) => {
    await remove();
    throw problem;
  });
  const { redisUrl, http, token } = stack.info;
  const patchbay = new Patchbay({ redisUrl, httpUrl: http, token });
  let stopped: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    await patchbay.close();
    await stack.stop();
    await remove();
  };
  const stop = (): Promise<void> => (stopped ??= end());
  return {
    patchbay,
    environment: { PATCHBAY_REDIS_URL: redisUrl, PATCHBAY_HTTP_URL: http, PATCHBAY_TOKEN: token },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
