/** `patchbay logs` and `events`: a job's event log so far, or until the job ends. @module */
import type { JobEvent } from '@patchbay/protocol';
import { openClient } from '../client.js';
import type { Config } from '../config.js';
import { defineCommand, flag, positional, text } from '../define-command.js';
import { eventLine } from '../render.js';

const shared = {
  job: positional('id of the job'),
  follow: flag('go on until the job ends', { short: 'f' }),
  from: text('only what comes after this cursor', { value: 'cursor' }),
};

async function read(
  config: Config,
  args: { job: string; follow: boolean; from?: string | undefined },
  signal: AbortSignal,
  each: (event: JobEvent) => void,
): Promise<void> {
  await using client = await openClient(config);
  for await (const event of client.jobs.get(args.job).events({ after: args.from, follow: args.follow, signal }))
    each(event);
}

export const logs = defineCommand({
  name: 'logs',
  summary: 'What the editing functions of a job printed',
  args: shared,
  async run({ args, config, out, signal }) {
    await read(config, args, signal, (event) => {
      if (event.type !== 'log') return;
      if (out.json) out.data(event, '');
      else out.raw(event.text.endsWith('\n') ? event.text : `${event.text}\n`);
    });
    return undefined;
  },
});

export const events = defineCommand({
  name: 'events',
  summary: 'The event log of a job',
  args: shared,
  examples: ['patchbay events ID -f --json', 'patchbay events ID --from 1795471200000-0'],
  async run({ args, config, out, signal }) {
    await read(config, args, signal, (event) => {
      out.data(event, () => `${event.cursor.padEnd(18)} ${event.type.padEnd(8)} ${eventLine(event)}`);
    });
    return undefined;
  },
});
