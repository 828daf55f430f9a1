/** Jobs, events and results as lines for people. @module */
import type { JobEvent, JobResult, JobStatus } from '@patchbay/protocol';
import { age, table } from './output.js';

const bytes = (count: number): string =>
  count < 10_000
    ? `${count} B`
    : count < 10_000_000
      ? `${Math.round(count / 1000)} kB`
      : `${Math.round(count / 1e6)} MB`;
const milliseconds = (value: number | undefined): string => (value === undefined ? '-' : `${value.toFixed(1)} ms`);

/** One line, without its end. */
export function eventLine(event: JobEvent): string {
  switch (event.type) {
    case 'state':
      return [
        event.state,
        event.attempt > 1 ? `attempt ${event.attempt}` : '',
        event.error?.message ?? event.reason ?? '',
      ]
        .filter((part) => part !== '')
        .join(': ');
    case 'log':
      return event.text.replace(/\n$/, '');
    case 'progress':
      return `${event.run} ${event.done}/${event.total}${event.loss == null ? '' : ` loss ${event.loss.toPrecision(6)}`}`;
    case 'token':
      return `${event.run}[${event.row}] ${JSON.stringify(event.text)}`;
    case 'artifact':
      return `${event.file} ${bytes(event.bytes)}`;
    case 'hook': {
      const { run, hook, module, calls, route, gatheredBytes, editMs } = event.report;
      return `${run} ${hook} ${module}: ${calls} calls, route ${route}, ${bytes(gatheredBytes)} gathered, edit ${milliseconds(editMs)}`;
    }
  }
}

/** What a script's author wants to see first. */
export function resultSummary(result: JobResult): string {
  const lines = [`${result.jobId} ${result.state}`];
  for (const [name, run] of Object.entries(result.runs)) {
    run.topK?.forEach((row, index) => {
      const best = row
        .map(({ token, probability }) => `${JSON.stringify(token)} ${probability?.toFixed(3) ?? '-'}`)
        .join('  ');
      lines.push(`${name}[${index}]  ${best}`);
    });
    run.text?.forEach((text, index) => lines.push(`${name}[${index}]  ${JSON.stringify(text)}`));
  }
  for (const { run, hook, module, calls, route, relativeChange } of result.hooks) {
    lines.push(
      `${run} ${hook} ${module}: ${calls} calls, route ${route}${relativeChange === null ? '' : `, change ${(relativeChange * 100).toFixed(1)} %`}`,
    );
  }
  const missing = result.activations.filter((one) => one.missing !== undefined);
  lines.push(
    ...missing.map(({ run, hook, module, missing: reason }) => `missing: ${run} ${hook} ${module}: ${reason}`),
  );
  lines.push(...result.warnings.map((warning) => `warning: ${warning}`));
  const times = Object.entries(result.timings).map(([name, value]) => `${name.replace(/Ms$/, '')} ${value.toFixed(1)}`);
  if (times.length > 0) lines.push(`ms: ${times.join(', ')}`);
  if (result.fingerprint !== undefined) lines.push(`sandbox: ${result.fingerprint.sandboxLevel}`);
  return lines.join('\n');
}

export function jobTable(jobs: readonly JobStatus[]): string {
  const rows = jobs.map((job) => [
    job.id,
    job.state,
    job.model,
    String(job.attempt),
    age(job.createdAt),
    Object.entries(job.labels)
      .map(([key, value]) => `${key}:${value}`)
      .join(' '),
    job.error?.code ?? '',
  ]);
  return table(['JOB', 'STATE', 'MODEL', 'ATTEMPT', 'AGE', 'LABELS', 'ERROR'], rows);
}

/** One job with its way through the states. */
export function jobDetails(job: JobStatus): string {
  const start = job.transitions[0]?.at ?? job.createdAt;
  const lines = [`${job.id}  ${job.state}  ${job.model}`];
  lines.push(
    ...job.transitions.map(
      ({ state, at, attempt, reason }) =>
        `${`+${at - start} ms`.padStart(10)}  ${state}${attempt > 1 ? ` (attempt ${attempt})` : ''}${reason === undefined ? '' : `: ${reason}`}`,
    ),
  );
  if (job.cancelRequested !== undefined) lines.push(`cancel asked for: ${job.cancelRequested}`);
  if (job.error !== undefined)
    lines.push(
      `error ${job.error.code}: ${job.error.message}${job.error.path == null ? '' : `\n  at ${job.error.path}`}`,
    );
  return lines.join('\n');
}
