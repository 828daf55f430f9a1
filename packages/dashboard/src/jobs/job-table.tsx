/** The list of jobs with its filter. @module */
import { legible } from '@patchbay/charts';
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { JobFilter, JobStatus } from '../api.js';
import { ago, duration, moment } from '../look/format.js';
import { Empty, Problem, State, Waiting } from '../look/parts.js';
import { VirtualList } from '../look/virtual-list.js';
import { go } from '../router.js';
import { useJobList } from './use-job-list.js';
import { OVER } from './use-job.js';

const STATES = ['queued', 'placing', 'running', 'completed', 'failed', 'cancelled', 'expired'];
const ROW = 40;
const TYPING_MS = 250;

function Row({ job }: { readonly job: JobStatus }): JSX.Element {
  const labels = Object.entries(job.labels);
  return (
    <>
      <span class="cell-state">
        <State state={job.state} />
      </span>
      <code class="cell-id" title={job.id}>
        {job.id}
      </code>
      <span class="cell-model">{job.model}</span>
      <span class="cell-labels">
        {labels.map(([key, value]) => (
          <span class="label" key={key} title={`${key}: ${value}`}>
            {legible(`${key}: ${value}`)}
          </span>
        ))}
        {job.error ? <span class="cell-error">{legible(job.error.message)}</span> : null}
      </span>
      <span class="cell-time">{OVER.includes(job.state) ? duration(job.updatedAt - job.createdAt) : '–'}</span>
      <time class="cell-when" title={moment(job.createdAt)}>
        {ago(job.createdAt)}
      </time>
    </>
  );
}

interface FilterProps {
  readonly filter: JobFilter;
  readonly change: (filter: JobFilter) => void;
  readonly models: readonly string[];
}

function Filter({ filter, change, models }: FilterProps): JSX.Element {
  const [text, setText] = useState(filter.text ?? '');
  const [label, setLabel] = useState(filter.label ?? '');
  useEffect(() => {
    const fits = label === '' || /^[^:]+:/.test(label);
    const timer = setTimeout(() => fits && change({ ...filter, text, label: label.replace(/:\s+/, ':') }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text, label]);
  const pick = (name: 'state' | 'model') => (event: JSX.TargetedEvent<HTMLSelectElement>) =>
    change({ ...filter, [name]: event.currentTarget.value });
  const options = (all: readonly string[]): JSX.Element[] => all.map((value) => <option key={value}>{value}</option>);
  return (
    <form class="filter" role="search" aria-label="Filter jobs" onSubmit={(event) => event.preventDefault()}>
      <label>
        State
        <select value={filter.state ?? ''} onChange={pick('state')}>
          <option value="">any</option>
          {options(STATES)}
        </select>
      </label>
      <label>
        Model
        <select value={filter.model ?? ''} onChange={pick('model')}>
          <option value="">any</option>
          {options(models)}
        </select>
      </label>
      <label>
        Label
        <input value={label} placeholder="key:value" onInput={(event) => setLabel(event.currentTarget.value)} />
      </label>
      <label class="grow">
        Text
        <input
          type="search"
          value={text}
          placeholder="id, label, error …"
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </label>
    </form>
  );
}

export function JobTable({ models }: { readonly models: readonly string[] }): JSX.Element {
  const [filter, setFilter] = useState<JobFilter>(() =>
    Object.fromEntries(new URLSearchParams(location.search).entries()),
  );
  const list = useJobList(filter);
  const change = (next: JobFilter): void => {
    const query = new URLSearchParams(Object.entries(next).filter(([, value]) => Boolean(value)) as [string, string][]);
    go(`/${query.size > 0 ? `?${query}` : ''}`, true);
    setFilter(next);
  };
  const filtered = Object.values(filter).some(Boolean);
  return (
    <>
      <Filter filter={filter} change={change} models={models} />
      {list.problem === undefined ? null : <Problem problem={list.problem} retry={list.refresh} />}
      <div class="row head" aria-hidden="true" hidden={list.jobs.length === 0}>
        <span class="cell-state">State</span>
        <span class="cell-id">Job</span>
        <span class="cell-model">Model</span>
        <span class="cell-labels">Labels</span>
        <span class="cell-time">Took</span>
        <span class="cell-when">Submitted</span>
      </div>
      {list.loading && list.jobs.length === 0 ? <Waiting what="jobs" /> : null}
      {!list.loading && list.jobs.length === 0 && list.problem === undefined ? (
        <Empty title={filtered ? 'No job fits the filter.' : 'No jobs yet.'}>
          {filtered ? null : (
            <p>
              Submit one: <code>npx patchbay run job.json</code>, or from a script with <code>@patchbay/sdk</code>.
            </p>
          )}
        </Empty>
      ) : null}
      {list.jobs.length > 0 ? (
        <VirtualList
          items={list.jobs}
          rowHeight={ROW}
          height={Math.min(list.jobs.length, 14) * ROW + 2}
          label="Jobs, newest first"
          keyOf={(job) => job.id}
          row={(job) => <Row job={job} />}
          open={(job) => go(`/jobs/${job.id}`)}
          more={list.more}
        />
      ) : null}
      {list.problem !== undefined && list.jobs.length === 0 ? null : (
        <p class="muted count" role="status">
          {list.jobs.length === 1 ? '1 job' : `${list.jobs.length.toLocaleString()} jobs`}
          {list.ended ? '' : ' loaded, more below'}
        </p>
      )}
    </>
  );
}
