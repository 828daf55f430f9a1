/** `patchbay jobs`, `job`, `cancel`. @module */
import { JOB_STATES, error } from '@patchbay/protocol';
import { z } from 'zod';
import { openClient } from '../client.js';
import { count, defineCommand, positional, repeated, text } from '../define-command.js';
import { jobDetails, jobTable } from '../render.js';

function toLabels(pairs: readonly string[] | undefined): Record<string, string> | undefined {
  if (pairs === undefined) return undefined;
  return Object.fromEntries(
    pairs.map((pair) => {
      const [, key, value] = /^([^:=]+)[:=](.*)$/.exec(pair) ?? [];
      if (key === undefined || value === undefined)
        throw error('PB_USAGE', { reason: `label: "${pair}" is not key=value`, command: 'jobs' });
      return [key, value];
    }),
  );
}

export const jobs = defineCommand({
  name: 'jobs',
  summary: 'List jobs, newest first',
  args: {
    state: z.enum(JOB_STATES).optional().describe(JOB_STATES.join(', ')).meta({ value: 'state' }),
    model: text('only of this deployment', { value: 'name' }),
    label: repeated('only with this label; may be repeated', { value: 'key=value' }),
    limit: count('at most this many', { value: 'count' }),
    cursor: text('go on after an earlier list', { value: 'cursor' }),
  },
  async run({ args, config, out, signal }) {
    const { label, ...filter } = args;
    const labels = toLabels(label);
    await using client = await openClient(config);
    const page = await client.jobs.list({ ...filter, labels, signal });
    out.data(page, () => (page.jobs.length === 0 ? 'no jobs' : jobTable(page.jobs)));
    if (page.nextCursor !== undefined) out.progress(`more: --cursor ${page.nextCursor}`);
    return undefined;
  },
});

export const job = defineCommand({
  name: 'job',
  summary: 'Show a job and its way through the states',
  args: { job: positional('id of the job') },
  async run({ args, config, out, signal }) {
    await using client = await openClient(config);
    const status = await client.jobs.get(args.job).status({ signal });
    out.data(status, () => jobDetails(status));
    return undefined;
  },
});

export const cancel = defineCommand({
  name: 'cancel',
  summary: 'Stop a job: a waiting one at once, a running one at its next agreement point',
  args: { job: positional('id of the job'), reason: text('why; stands in the record', { value: 'text' }) },
  async run({ args, config, out, signal }) {
    await using client = await openClient(config);
    const status = await client.jobs.get(args.job).cancel({ reason: args.reason, signal });
    out.data(
      status,
      `${status.id} ${status.cancelRequested === undefined || status.state === 'cancelled' ? status.state : `${status.state}, to be cancelled`}`,
    );
    return undefined;
  },
});
