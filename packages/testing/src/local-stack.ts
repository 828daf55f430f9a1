/** A stack in a folder of its own, with a client: what one test run needs, gone without a trace afterwards. @module */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machineSettings } from '@patchbay/cli/config';
import { startStack, type StackOptions } from '@patchbay/cli/stack';
import { Patchbay } from '@patchbay/sdk';

export type LocalStackOptions = Omit<
  StackOptions,
  'home' | 'redisUrl' | 'token' | 'httpPort' | 'environment' | 'directory'
>;

export interface LocalStack extends AsyncDisposable {
  /** A client of this stack; closed with it. */
  readonly patchbay: Patchbay;
  /** For scripts under test that run as processes of their own. */
  readonly environment: Readonly<Record<'PATCHBAY_REDIS_URL' | 'PATCHBAY_HTTP_URL' | 'PATCHBAY_TOKEN', string>>;
  /** Ends every process and removes every file. Idempotent. */
  stop(): Promise<void>;
}

/** Settings that name the user's own Redis, Ray or artifacts: a stack on those would run his jobs and delete his files. */
const OF_ANOTHER_STACK = /^(PATCHBAY_(?!SANDBOX_)|RAY_ADDRESS$)/;

/**
 * Starts Redis, Ray, gateway, orchestrator, and the model when one is named, beside whatever else runs on the machine;
 * takes seconds, so once per test run. A stack of the user's is neither used nor disturbed.
 * @throws what `startStack` throws: `PB_STACK_START_FAILED`, `PB_MODEL_LOAD_FAILED`, ...
 */
export async function startLocalStack(options: LocalStackOptions = {}): Promise<LocalStack> {
  const home = await mkdtemp(join(tmpdir(), 'patchbay-test-'));
  const remove = (): Promise<void> => rm(home, { recursive: true, force: true });
  const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !OF_ANOTHER_STACK.test(name)));
  const all = { ...(await machineSettings()), ...options, home, environment, directory: home };
  const stack = await startStack(all).catch(async (problem: unknown) => {
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
