/** Two jobs side by side: what differs in their documents, their times and their answers. @module */
import { legible, visible } from '@patchbay/charts';
import type { JSX } from 'preact';
import { api, type JobResult, type JobWithDocument } from '../api.js';
import { differences } from '../jobs/differences.js';
import { useLoaded } from '../live/use-loaded.js';
import { duration } from '../look/format.js';
import { Card, Empty, Problem, State, Waiting } from '../look/parts.js';
import { Link } from '../router.js';

interface Both {
  readonly jobs: readonly [JobWithDocument, JobWithDocument];
  readonly results: readonly [JobResult | undefined, JobResult | undefined];
}

async function load(one: string, other: string, signal: AbortSignal): Promise<Both> {
  const jobs = await Promise.all([api.job(one, signal), api.job(other, signal)]);
  const result = (id: string): Promise<JobResult | undefined> => api.result(id, signal).catch(() => undefined);
  return { jobs, results: await Promise.all([result(one), result(other)]) };
}

const text = (value: unknown): string =>
  value === undefined ? '–' : typeof value === 'string' ? value : JSON.stringify(value, null, 2);

/** Per run and row the most probable next token with its probability. */
const answers = (result: JobResult | undefined): Record<string, string> =>
  Object.fromEntries(
    Object.entries(result?.runs ?? {}).flatMap(([run, { topK, text: generated }]) => [
      ...(topK ?? []).map((row, index) => [
        `${run}, row ${index}`,
        `${visible(row[0]?.token ?? '')} (${row[0]?.probability?.toFixed(3) ?? ''})`,
      ]),
      ...(generated ?? []).map((row, index) => [`${run}, text ${index}`, row.trimStart()]),
    ]),
  ) as Record<string, string>;

const times = (result: JobResult | undefined): Record<string, string> =>
  Object.fromEntries(
    Object.entries(result?.timings ?? {}).map(([name, ms]) => [name.replace(/Ms$/, ''), duration(ms)]),
  );

export function ComparePage({ one, other }: { readonly one: string; readonly other: string }): JSX.Element {
  const { value, problem } = useLoaded((signal) => load(one, other, signal), [one, other]);
  if (problem !== undefined) return <Problem problem={problem} />;
  if (value === undefined) return <Waiting what="two jobs" />;
  const [a, b] = value.jobs;
  const [x, y] = value.results;
  const table = (title: string, what: string, left: unknown, right: unknown, all: boolean): JSX.Element => {
    const rows = differences(left, right, all);
    return (
      <Card title={title}>
        {rows.length === 0 ? <Empty title="No difference." /> : null}
        {rows.length === 0 ? null : (
          <div class="scroll" tabIndex={0} role="group" aria-label={title}>
            <table class="compared">
              <thead>
                <tr>
                  <th scope="col">{what}</th>
                  <th scope="col">{one}</th>
                  <th scope="col">{other}</th>
                </tr>
              </thead>
              <tbody>
                {rows.map(({ path, left: l, right: r }) => (
                  <tr key={path}>
                    <th scope="row">
                      <code>{path}</code>
                    </th>
                    <td>
                      <pre>{legible(text(l))}</pre>
                    </td>
                    <td>
                      <pre>{legible(text(r))}</pre>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Card>
    );
  };
  return (
    <>
      <h1>Compare</h1>
      <p class="facts-line">
        {value.jobs.map((job) => (
          <span key={job.id}>
            <Link to={`/jobs/${job.id}`}>{job.id}</Link> <State state={job.state} />{' '}
          </span>
        ))}
      </p>
      {table('Documents', 'Path', a.document, b.document, false)}
      {table('Answers', 'Run', answers(x), answers(y), true)}
      {table('Times', 'Phase', times(x), times(y), true)}
    </>
  );
}
