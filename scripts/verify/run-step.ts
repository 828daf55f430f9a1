/** Runs one command of the gate: keeps its output and ends it when it takes too long. */
import { spawn } from 'node:child_process';

export interface StepOutcome {
  readonly ok: boolean;
  readonly seconds: number;
  readonly output: string;
  /** Why it is not ok, when the exit code alone does not say it. */
  readonly reason?: string;
}

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly limitMs: number;
}

const GRACE_MS = 20_000;

/** A Redis or a Python that a person's shell names must not change what is tested. */
function ownEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PATCHBAY_')));
}

export async function runStep({ command, args, cwd, env, limitMs }: Command): Promise<StepOutcome> {
  const begun = Date.now();
  const chunks: string[] = [];
  // A group of its own, so that the limit also ends what the command started.
  const child = spawn(command, args, {
    cwd,
    env: { ...ownEnvironment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const signalGroup = (signal: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // The group is gone already.
    }
  };
  const forward = (): void => {
    signalGroup('SIGTERM');
    setImmediate(() => process.exit(130)); // another step that runs has its own group to end
  };
  process.once('SIGINT', forward).once('SIGTERM', forward);
  let late = false;
  const limit = setTimeout(() => {
    late = true;
    signalGroup('SIGTERM');
    setTimeout(() => signalGroup('SIGKILL'), GRACE_MS).unref();
  }, limitMs);
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => chunks.push(text));
  }
  const reason = await new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(`cannot be started: ${error.message}`));
    child.on('close', (code, signal) =>
      resolve(code === 0 ? undefined : `ended with ${signal ?? `exit code ${code}`}`),
    );
  });
  clearTimeout(limit);
  process.off('SIGINT', forward).off('SIGTERM', forward);
  const output = chunks.join('');
  const seconds = (Date.now() - begun) / 1000;
  if (reason === undefined) return { ok: true, seconds, output };
  return {
    ok: false,
    seconds,
    output,
    reason: late ? `stopped after its limit of ${limitMs / 60_000} minutes` : reason,
  };
}
