/** `patchbay run` and its two halves, `submit` and `result`. @module */
import { isPatchbayError, type JobEvent } from '@patchbay/protocol';
import type { JobHandle } from '@patchbay/sdk';
import { openClient } from '../client.js';
import { defineCommand, flag, positional, text } from '../define-command.js';
import { prepareFolder } from './output-path.js';
import type { Output } from '../output.js';
import { transferBar } from './transfer-bar.js';
import { writeFailedJob } from './failed-job.js';
import { readDocument } from '../read-document.js';
import { eventLine, resultSummary } from '../render.js';

const CANCEL_LIMIT_MS = 5_000;
const document = positional('job document; - is stdin');
const out = text('folder for result.json and the files of tensors', { value: 'dir' });
const jobId = text('id of the job; default: a new one. The same id and document never run twice', { value: 'id' });

/** Waits for the end, writes the files and prints the result. @throws the job's own error */
async function finish(job: JobHandle, dir: string | undefined, output: Output, signal: AbortSignal): Promise<void> {
  const result = await job.result({ signal, eagerBytes: 0 }).catch(async (problem: unknown) => {
    if (dir !== undefined && !signal.aborted && isPatchbayError(problem)) {
      if (await writeFailedJob(job, problem, dir, signal)) output.progress(`what is known of it is in ${dir}`);
    }
    throw problem;
  });
  if (dir !== undefined) {
    await result.download(dir, { signal, onProgress: transferBar(output, 'download') });
    output.progress(`written to ${dir}`);
  }
  const files = Object.fromEntries(
    Object.entries(result.files).map(([name, { sha256, bytes }]) => [name, { sha256, bytes }]),
  );
  output.data({ ...result.json, files }, () => resultSummary(result.json));
}

/** What becomes of a job whose follower was interrupted, in words. */
async function afterInterrupt(job: JobHandle, cancel: boolean): Promise<string> {
  if (cancel) {
    const { state } = await job.cancel({ reason: 'interrupted', timeoutMs: CANCEL_LIMIT_MS });
    return state === 'cancelled' ? `${job.id} is cancelled` : `${job.id} is ${state}, to be cancelled`;
  }
  return `the job goes on: \`patchbay result ${job.id}\` waits for it, \`patchbay cancel ${job.id}\` stops it`;
}

function showEvent(output: Output, event: JobEvent): void {
  if (event.type === 'token') return;
  if (event.type !== 'progress') return output.progress(eventLine(event));
  const note = event.loss == null ? '' : `loss ${event.loss.toPrecision(6)}`;
  output.bar(event.run, event.done, event.total, note);
}

export const run = defineCommand({
  name: 'run',
  summary: 'Submit a job, follow it and write its result files',
  args: { document, out, jobId, cancelOnInterrupt: flag('Ctrl-C cancels the job too; otherwise it goes on') },
  examples: ['patchbay run job.json --out out/first', 'cat job.json | patchbay run - --json'],
  async run({ args, config, out: output, signal }) {
    const value = await readDocument(args.document);
    if (args.out !== undefined) await prepareFolder(args.out, 'run');
    await using client = await openClient(config);
    const job = await client.jobs.submit(value as Parameters<typeof client.jobs.submit>[0], {
      signal,
      jobId: args.jobId,
      cancelOnAbort: args.cancelOnInterrupt, // also one that is only being submitted
    });
    output.progress(`submitted ${job.id}`);
    try {
      for await (const event of job.events({ signal })) showEvent(output, event);
      await finish(job, args.out, output, signal);
    } catch (problem) {
      if (signal.aborted) output.progress(await afterInterrupt(job, args.cancelOnInterrupt));
      throw problem;
    }
    return undefined;
  },
});

export const submit = defineCommand({
  name: 'submit',
  summary: 'Submit a job and print its id',
  args: { document, jobId },
  async run({ args, config, out: output, signal }) {
    const value = await readDocument(args.document);
    await using client = await openClient(config);
    const job = await client.jobs.submit(value as Parameters<typeof client.jobs.submit>[0], {
      signal,
      jobId: args.jobId,
    });
    output.data({ jobId: job.id }, job.id);
    return undefined;
  },
});

export const result = defineCommand({
  name: 'result',
  summary: 'Wait for a job and write its result files',
  args: { job: positional('id of the job'), out },
  async run({ args, config, out: output, signal }) {
    if (args.out !== undefined) await prepareFolder(args.out, 'result');
    await using client = await openClient(config);
    await finish(client.jobs.get(args.job), args.out, output, signal);
    return undefined;
  },
});
