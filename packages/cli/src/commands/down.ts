/** `patchbay down`: ends the stack of a home, however it was started. @module */
import { defineCommand } from '../define-command.js';

export const down = defineCommand({
  name: 'down',
  summary: 'Stop the local stack; returns when no process is left',
  args: {},
  async run({ config, out }) {
    const { stopStack } = await import('../stack/stop-stack.js');
    const stopped = await stopStack(config.home);
    out.data({ stopped, home: config.home }, stopped ? 'stopped' : `no stack is running for ${config.home}`);
    return undefined;
  },
});
