/** `patchbay up`: the whole local stack, in the foreground until Ctrl-C, or detached. @module */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PatchbayError, error, type Deployment, type StackInfo } from '@patchbay/protocol';
import type { Config } from '../config.js';
import { count, defineCommand, flag, text } from '../define-command.js';
import type { KeeperMessage, KeeperOptions } from '../detached-keeper.js';
import { LEVELS } from '../doctor/levels.js';
import type { Output } from '../output.js';
import { makeFolders, stackPaths } from '../stack/paths.js';
import { deploymentArguments } from './deployment-arguments.js';

interface Ready {
  readonly info: StackInfo;
  readonly sandboxLevel: string | undefined;
  readonly deployment: Deployment | undefined;
}

function show(out: Output, { info, sandboxLevel, deployment }: Ready, detached: boolean): void {
  const lines = [
    `dashboard ${info.http}/?token=${info.token}`,
    `http      ${info.http}`,
    `redis     ${info.redisUrl}`,
    `ray       ${info.rayAddress}`,
    `gateway   ${info.gateway}`,
    `sandbox   ${sandboxLevel === undefined ? 'tested with the first deployment' : `${sandboxLevel}: ${LEVELS[sandboxLevel] ?? ''}`}`,
    ...(deployment === undefined
      ? []
      : [
          `model     ${deployment.spec.name} is ${deployment.status} (pp ${deployment.spec.pp}, dp ${deployment.spec.dp}, tp ${deployment.spec.tp})`,
        ]),
    detached ? '`patchbay down` stops it.' : 'Ctrl-C stops it.',
  ];
  out.data({ ...info, sandboxLevel: sandboxLevel ?? null }, lines.join('\n'));
}

/** Starts the keeper as a process of its own and waits until it is ready. */
async function startDetached(config: Config, options: KeeperOptions, out: Output, signal: AbortSignal): Promise<Ready> {
  const paths = stackPaths(config.home);
  makeFolders(paths);
  const log = openSync(paths.log('keeper'), 'a', 0o600);
  const script = fileURLToPath(new URL('../detached-keeper.js', import.meta.url));
  const keeper = spawn(process.execPath, [script, config.home], { detached: true, stdio: ['ignore', log, log, 'ipc'] });
  closeSync(log);
  const abort = (): void => void keeper.kill('SIGTERM');
  signal.addEventListener('abort', abort, { once: true });
  try {
    keeper.send({ type: 'start', options });
    return await new Promise<Ready>((resolve, reject) => {
      keeper.on('message', (message: KeeperMessage) => {
        if (message.type === 'progress') out.working(message.text);
        else if (message.type === 'ready') resolve(message);
        else reject(PatchbayError.fromJson(message.error));
      });
      keeper.once('error', reject);
      keeper.once('exit', (code) =>
        reject(
          error('PB_STACK_START_FAILED', {
            part: 'keeper',
            reason: `ended with status ${code ?? 'unknown'}`,
            log: paths.log('keeper'),
          }),
        ),
      );
    });
  } finally {
    signal.removeEventListener('abort', abort);
    if (keeper.connected) keeper.disconnect();
    keeper.unref();
  }
}

export const up = defineCommand({
  name: 'up',
  summary: 'Start a local stack: Redis, Ray, gateway, orchestrator, and a model if one is named',
  args: {
    model: text('deploy this model: a built-in name, a path or a hub name', { value: 'model' }),
    ...deploymentArguments,
    detach: flag('return when the stack is ready, and leave it running', { short: 'd' }),
    rayAddress: text('use this Ray cluster instead of an own one (RAY_ADDRESS)', { value: 'host:port' }),
    httpPort: count('port of the orchestrator (PATCHBAY_HTTP_PORT; default: a free one)', { value: 'port' }),
    sandboxMinimum: text('refuse edits below this level of the sandbox (PATCHBAY_SANDBOX_MINIMUM; default: confined)', {
      value: 'level',
    }),
    python: text('Python with the packages of the worker (PATCHBAY_PYTHON)', { value: 'path' }),
  },
  examples: ['patchbay up --model tiny-facts --tp 2', 'patchbay up --detach --json'],
  async run({ args, config, out, signal, forced, holdInterrupts }) {
    const { detach, sandboxMinimum: _checked, ...model } = args; // checked, it is in `config`
    const options = { ...model, ...config };
    if (detach) {
      show(out, await startDetached(config, options, out, signal), true);
      return undefined;
    }
    const { startStack } = await import('../stack/index.js');
    holdInterrupts();
    const stack = await startStack({ ...options, onProgress: (line) => out.working(line), signal });
    forced.addEventListener('abort', () => void stack.stop('kill'), { once: true });
    if (!signal.aborted) {
      show(out, stack, false);
      const asked = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      await Promise.race([asked, stack.ended]);
      if (signal.aborted) out.progress('stopping ... (Ctrl-C again to kill)');
    }
    await stack.stop();
    out.progress('stopped');
    return signal.aborted ? 0 : 1;
  },
});
