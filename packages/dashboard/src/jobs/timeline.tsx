/** A job's states and attempts in time, and where its time went. @module */
import { legible, stackedBar } from '@patchbay/charts';
import type { JSX } from 'preact';
import type { JobResult, JobStatus } from '../api.js';
import { Chart } from '../look/chart.js';
import { clock, duration } from '../look/format.js';
import { Card, State } from '../look/parts.js';

/** Phases that do not overlap, in the order of their being. */
const PHASES = [
  'queueMs',
  'placeMs',
  'controlMs',
  'prepareMs',
  'forwardMs',
  'gatherMs',
  'sandboxMs',
  'scatterMs',
  'transferMs',
];

export function Timeline({ job }: { readonly job: JobStatus }): JSX.Element {
  const all = job.transitions;
  return (
    <Card title="Timeline" aside={<span class="muted">attempt {job.attempt}</span>}>
      <ol class="timeline">
        {all.map(({ state, at, attempt, reason }, index) => (
          <li key={index}>
            <time>{clock(at)}</time>
            <State state={state} />
            <span class="muted">
              {attempt > 0 ? `attempt ${attempt}` : ''}
              {all[index + 1] === undefined ? '' : ` for ${duration(all[index + 1]!.at - at)}`}
            </span>
            {reason ? <span class="reason">{legible(reason)}</span> : null}
          </li>
        ))}
      </ol>
    </Card>
  );
}

export function Phases({ result }: { readonly result: JobResult }): JSX.Element {
  const { timings } = result;
  const hooks = { gatherMs: 0, editMs: 0, scatterMs: 0 };
  for (const report of result.hooks) {
    hooks.gatherMs += report.gatherMs;
    hooks.editMs += report.editMs;
    hooks.scatterMs += report.scatterMs;
  }
  const known: Record<string, number> = {
    gatherMs: hooks.gatherMs,
    sandboxMs: hooks.editMs,
    scatterMs: hooks.scatterMs,
    ...timings,
  };
  const phases = PHASES.map((name) => ({ name: name.slice(0, -2), value: known[name] ?? 0 }));
  const counted = phases.reduce((sum, { value }) => sum + value, 0);
  const rest = Math.max(0, (timings['totalMs'] ?? 0) - counted);
  const shares = [...phases, { name: 'other', value: rest }]
    .filter(({ value }) => value > 0)
    .sort((a, b) => b.value - a.value);
  const bar = [
    ...shares.slice(0, 6),
    { name: 'smaller', value: shares.slice(6).reduce((sum, { value }) => sum + value, 0) },
  ];
  return (
    <Card title="Time by phase" aside={<span class="muted">{duration(timings['totalMs'] ?? 0)} in all</span>}>
      <Chart
        name={`${result.jobId}-time`}
        draw={(theme) => stackedBar('', bar, ' ms', theme)}
        rows={() => [['phase', 'ms'], ...Object.entries(timings)]}
      />
    </Card>
  );
}
