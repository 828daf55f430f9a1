/** The process behind `patchbay up --detach`: takes its options by IPC, keeps the stack until SIGTERM. @module */
import { toPatchbayError, type Deployment, type ErrorJson, type StackInfo } from '@patchbay/protocol';
import { startStack, type Stack, type StackOptions } from './stack/index.js';

export type KeeperOptions = Omit<StackOptions, 'onProgress' | 'signal'>;
export type KeeperMessage =
  | { readonly type: 'progress'; readonly text: string }
  | {
      readonly type: 'ready';
      readonly info: StackInfo;
      readonly sandboxLevel: string | undefined;
      readonly deployment: Deployment | undefined;
    }
  | { readonly type: 'failed'; readonly error: ErrorJson };

const stop = new AbortController();
let stack: Stack | undefined;

/** To the one who waits, while there is one. */
const tell = (message: KeeperMessage): void => {
  if (process.connected) process.send!(message, () => undefined);
};

function end(): void {
  if (stop.signal.aborted) void stack?.stop('kill');
  stop.abort();
}

async function keep(options: KeeperOptions): Promise<number> {
  const onProgress = (text: string): void => {
    console.log(new Date().toISOString(), text);
    tell({ type: 'progress', text });
  };
  try {
    stack = await startStack({ ...options, onProgress, signal: stop.signal });
  } catch (problem) {
    console.error(problem);
    tell({ type: 'failed', error: toPatchbayError(problem).toJSON() });
    return 1;
  }
  tell({ type: 'ready', info: stack.info, sandboxLevel: stack.sandboxLevel, deployment: stack.deployment });
  process.off('disconnect', end); // the starter goes now; before, it was interrupted
  if (stop.signal.aborted) void stack.stop();
  stop.signal.addEventListener('abort', () => void stack?.stop(), { once: true });
  await stack.ended;
  return 0;
}

for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, end);
process.on('disconnect', end);
process.once('message', (message: { options: KeeperOptions }) => {
  void keep(message.options).then((status) => {
    process.exitCode = status;
    if (process.connected) process.disconnect();
  });
});
