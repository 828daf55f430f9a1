/** `patchbay drain`: takes a deployment or the orchestrator out of service without breaking a job off. @module */
import { error, isPatchbayError } from '@patchbay/protocol';
import type { Patchbay, QueueCounts } from '@patchbay/sdk';
import { openClient } from '../client.js';
import { defineCommand, flag, text } from '../define-command.js';
import { pause } from '../processes/wait.js';

const LOOK_MS = 200;

async function drainDeployment(
  client: Patchbay,
  name: string,
  { signal, tell }: { signal: AbortSignal; tell: (line: string) => void },
): Promise<QueueCounts> {
  for (let last = -1; ; await pause(LOOK_MS, signal)) {
    const counts = await client.models.drain(name, { signal });
    if (counts.running === 0) return counts;
    if (counts.running !== last) tell(`${name}: ${counts.running} running, ${counts.waiting} waiting`);
    last = counts.running;
  }
}

/** It says that it drains until it is gone, or another one answers in its place. */
async function drainOrchestrator(client: Patchbay, signal: AbortSignal, tell: (line: string) => void): Promise<void> {
  const { running } = await client.drain({ signal });
  if (running > 0) tell(`${running} running`);
  for (;;) {
    await pause(LOOK_MS, signal);
    try {
      if (!(await client.isDraining({ signal }))) return;
    } catch (cause) {
      if (isPatchbayError(cause, 'PB_ORCHESTRATOR_UNAVAILABLE')) return;
      throw cause;
    }
  }
}

export const drain = defineCommand({
  name: 'drain',
  summary: 'Let running jobs end and give out no more: of a deployment, or the whole orchestrator, which then leaves',
  args: {
    name: text('only this deployment; what waits goes on waiting', { positional: true }),
    resume: flag('give out the jobs of the deployment again'),
    undeploy: flag('take the deployment off the cluster then; what waits fails'),
  },
  examples: ['patchbay drain tiny-facts', 'patchbay drain tiny-facts --resume', 'patchbay drain'],
  async run({ args: { name, resume, undeploy }, config, out, signal }) {
    await using client = await openClient(config);
    const tell = (line: string): void => out.progress(line);
    if (name === undefined && (resume || undeploy))
      throw error('PB_USAGE', { reason: '--resume and --undeploy need the name of a deployment', command: 'drain' });
    if (name === undefined) {
      await drainOrchestrator(client, signal, tell);
      out.data({ drained: true }, 'its jobs have ended, the orchestrator has left');
    } else if (resume) {
      out.data(await client.models.drain(name, { draining: false, signal }), `${name} gives out jobs again`);
    } else {
      const counts = await drainDeployment(client, name, { signal, tell });
      if (undeploy) await client.models.undeploy(name, { signal });
      const left = undeploy ? 'is gone' : `runs nothing, ${counts.waiting} jobs wait`;
      out.data({ ...counts, undeployed: undeploy }, `${name} ${left}`);
    }
    return undefined;
  },
});
