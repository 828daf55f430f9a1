/** One job: what it is, how it went, what came out of it. @module */
import { legible } from '@patchbay/charts';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { api, type JobWithDocument, type Role } from '../api.js';
import { Document } from '../jobs/document.js';
import { Failure } from '../jobs/failure.js';
import { HookMap, HookTable } from '../jobs/hooks.js';
import { Logs, Progress, Tokens } from '../jobs/output.js';
import { Phases, Timeline } from '../jobs/timeline.js';
import { OVER, useJob } from '../jobs/use-job.js';
import { useLoaded } from '../live/use-loaded.js';
import { Confirm, type Question } from '../look/confirm.js';
import { textOf } from '../look/form.js';
import { duration, moment } from '../look/format.js';
import { Facts, Problem, State, Waiting } from '../look/parts.js';
import { Results } from '../results/results.js';
import { go } from '../router.js';

function Actions({ job, changed }: { readonly job: JobWithDocument; readonly changed: () => void }): JSX.Element {
  const [question, ask] = useState<Question>();
  const over = OVER.includes(job.state);
  const cancel: Question = {
    title: 'Cancel this job?',
    text: 'A waiting job is removed from the queue, a running one stops between two layers. Its results are lost.',
    action: 'Cancel the job',
    run: () => api.cancel(job.id).then(changed),
  };
  const retry: Question = {
    title: 'Run this job again?',
    text: 'The same document is submitted as a new job with the label retryOf.',
    action: 'Run again',
    run: () => api.retry(job.id).then(({ jobId }) => go(`/jobs/${jobId}`)),
  };
  const remove: Question = {
    title: 'Remove this job?',
    text: 'Its record, events and result are forgotten. Artifacts stay in the store.',
    action: 'Remove',
    run: () => api.remove(job.id).then(() => go('/')),
  };
  return (
    <span class="actions">
      <button type="button" onClick={() => ask(retry)}>
        Run again
      </button>
      {over ? (
        <button type="button" class="danger" onClick={() => ask(remove)}>
          Remove
        </button>
      ) : (
        <button type="button" class="danger" onClick={() => ask(cancel)}>
          Cancel
        </button>
      )}
      <Confirm question={question} close={() => ask(undefined)} />
    </span>
  );
}

function Compare({ id }: { readonly id: string }): JSX.Element {
  const submit = (event: JSX.TargetedEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const other = textOf(event.currentTarget, 'other');
    if (other !== '') go(`/jobs/${id}/compare/${encodeURIComponent(other)}`);
  };
  return (
    <form class="compare" onSubmit={submit}>
      <input name="other" aria-label="Id of another job" placeholder="id of another job" required />
      <button type="submit">Compare</button>
    </form>
  );
}

function QueuePlace({ id }: { readonly id: string }): JSX.Element | null {
  const { value } = useLoaded((signal) => api.place(id, signal), [id], { everyMs: 2_000 });
  if (value == null || value.ahead === null) return null;
  const { ahead, expectedStartMs } = value;
  return (
    <p class="note" role="status">
      {ahead === 0 ? 'Next in the queue.' : `${ahead} jobs are before this one.`}{' '}
      {expectedStartMs === null
        ? 'Too few jobs ran lately to say when it starts.'
        : `Expected to start in about ${duration(expectedStartMs)}.`}
    </p>
  );
}

export function JobPage({ id, role }: { readonly id: string; readonly role: Role }): JSX.Element {
  const { job, result, events, problem, refresh } = useJob(id);
  if (job === undefined)
    return problem === undefined ? <Waiting what="the job" /> : <Problem problem={problem} retry={refresh} />;
  const over = OVER.includes(job.state);
  const labels = Object.entries(job.labels).map(([key, value]) => (
    <span class="label" key={key}>
      {legible(`${key}: ${value}`)}
    </span>
  ));
  return (
    <>
      <header class="page-head">
        <h1>
          <span class="muted">Job</span> <code>{job.id}</code>
        </h1>
        <State state={job.state} />
        <Compare id={id} />
        {role === 'operator' ? <Actions job={job} changed={refresh} /> : null}
      </header>
      <Facts
        facts={[
          ['Model', job.model],
          ['Submitted', moment(job.createdAt)],
          ['Took', over ? duration(job.updatedAt - job.createdAt) : 'not over'],
          ['Attempt', job.attempt],
          ['Runs', job.document.runs.length],
          ['Hooks', job.document.hooks.length],
          ['Sandbox', result?.fingerprint?.sandboxLevel ?? '–'],
          ['Labels', labels.length === 0 ? 'none' : labels],
        ]}
      />
      {job.cancelRequested !== undefined && !over ? <p class="note">Asked to stop: {job.cancelRequested}</p> : null}
      {job.state === 'queued' ? <QueuePlace id={id} /> : null}
      {problem === undefined ? null : <Problem problem={problem} retry={refresh} />}
      {result?.warnings.map((warning) => (
        <p class="note" key={warning}>
          {warning}
        </p>
      ))}
      <Failure job={job} />
      {over ? null : <Progress events={events} />}
      {result === undefined ? null : <Results result={result} />}
      <Tokens events={events} />
      <div class="two">
        <Timeline job={job} />
        <Logs events={events} over={over} />
      </div>
      {result?.timings['totalMs'] === undefined ? null : <Phases result={result} />}
      {result?.state === 'completed' ? <HookTable result={result} /> : null}
      <HookMap document={job.document} />
      <Document document={job.document} />
    </>
  );
}
