/** The first page: how every queue does, and the jobs. @module */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { api, type QueueOverview, type Role } from '../api.js';
import { DrainButton, Draining } from '../cluster/drain.js';
import { JobTable } from '../jobs/job-table.js';
import { useChanges } from '../live/use-changes.js';
import { useLoaded } from '../live/use-loaded.js';
import { Confirm, type Question } from '../look/confirm.js';
import { duration } from '../look/format.js';
import { Card, Empty, Problem, State, Waiting } from '../look/parts.js';
import { TimeChart, plain } from '../look/time-chart.js';

const WINDOWS = [
  [60, 'last hour'],
  [360, 'last 6 hours'],
  [1440, 'last day'],
] as const;

const sum = (queue: QueueOverview, what: 'completed' | 'failed' | 'cancelled'): number =>
  queue.points.reduce((total, point) => total + point[what], 0);

interface QueueProps {
  readonly queue: QueueOverview;
  readonly role: Role;
  readonly ask: (question: Question) => void;
  readonly changed: () => void;
}

function Queue({ queue, role, ask, changed }: QueueProps): JSX.Element {
  const { model, status, replicas, ready, waiting, running, points } = queue;
  const at = points.map((point) => point.at);
  return (
    <article class="queue" aria-label={`Queue of ${model}`}>
      <header>
        <h3>{model}</h3>
        <State state={status} />
        <Draining queue={queue} />
        <span class="muted">
          {ready} of {replicas} replicas ready
        </span>
        <DrainButton {...{ queue, role, ask, changed }} />
      </header>
      <div class="numbers">
        <Number name="waiting" value={waiting} />
        <Number name="running" value={running} />
        <Number name="completed" value={sum(queue, 'completed')} />
        <Number name="failed" value={sum(queue, 'failed')} bad />
      </div>
      <div class="charts">
        <TimeChart
          title="Jobs per minute"
          at={at}
          format={plain}
          series={[
            { name: 'completed', values: points.map((point) => point.completed), bars: true, colour: 0 },
            { name: 'failed', values: points.map((point) => point.failed), bars: true, colour: 1 },
          ]}
        />
        <TimeChart
          title="Latency, submit to result"
          at={at}
          format={duration}
          series={[
            { name: 'median', values: points.map((point) => point.p50), colour: 0 },
            { name: '95 %', values: points.map((point) => point.p95), colour: 5 },
          ]}
        />
      </div>
    </article>
  );
}

function Number({ name, value, bad = false }: { name: string; value: number; bad?: boolean }): JSX.Element {
  return (
    <div class={bad && value > 0 ? 'number bad' : 'number'}>
      <strong>{value.toLocaleString()}</strong>
      <span>{name}</span>
    </div>
  );
}

export function QueuesPage({ role }: { readonly role: Role }): JSX.Element {
  const [minutes, setMinutes] = useState<number>(WINDOWS[0][0]);
  const [question, ask] = useState<Question>();
  const { value, problem, refresh } = useLoaded((signal) => api.queues(minutes, signal), [minutes], {
    pauseMs: 1_000,
    everyMs: 10_000,
  });
  useChanges(refresh);
  const picker = (
    <label class="inline">
      <span class="visually-hidden">Time shown</span>
      <select value={minutes} onChange={(event) => setMinutes(globalThis.Number(event.currentTarget.value))}>
        {WINDOWS.map(([length, name]) => (
          <option key={length} value={length}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <>
      <h1>Queues</h1>
      <Card title="Deployments" aside={picker}>
        {problem === undefined ? null : <Problem problem={problem} retry={refresh} />}
        {value === undefined && problem === undefined ? <Waiting what="queues" /> : null}
        {value?.queues.length === 0 ? (
          <Empty title="Nothing is deployed.">
            <p>
              Deploy a model on the Cluster page, or: <code>npx patchbay deploy tiny-facts --tp 2</code>
            </p>
          </Empty>
        ) : null}
        <div class="queues">
          {value?.queues.map((queue) => (
            <Queue key={queue.model} queue={queue} role={role} ask={ask} changed={refresh} />
          ))}
        </div>
      </Card>
      <Card title="Jobs">
        <JobTable models={(value?.queues ?? []).map(({ model }) => model)} />
      </Card>
      <Confirm question={question} close={() => ask(undefined)} />
    </>
  );
}
