/** Why a job failed: the error, the user's source with the line marked, the traceback. @module */
import { legible } from '@patchbay/charts';
import type { JSX } from 'preact';
import type { JobStatus, JobWithDocument } from '../api.js';
import { Card } from '../look/parts.js';

/** The source that an error's path or message leads to: a hook's edit, a run's loss, a module. */
function sourceOf(job: JobWithDocument): { name: string; source: string } | undefined {
  const { message = '', path } = job.error ?? {};
  const hooks = job.document.hooks.flatMap(({ name, edit }) =>
    edit.kind === 'python' && typeof edit.source === 'string' ? [{ name, source: edit.source }] : [],
  );
  const index = /^hooks\[(\d+)\]/.exec(path ?? '')?.[1];
  const byPath = index === undefined ? undefined : job.document.hooks[Number(index)]?.name;
  const named = /hook (\S+)/.exec(message)?.[1];
  const match = (name: string | undefined): boolean => name !== undefined;
  return (
    hooks.find(({ name }) => match(byPath) && name === byPath) ??
    hooks.find(({ name }) => match(named) && (named === name || named?.startsWith(`${name}[`))) ??
    (hooks.length === 1 ? hooks[0] : undefined)
  );
}

export function Source({ source, line }: { readonly source: string; readonly line?: number | undefined }): JSX.Element {
  return (
    <div class="source" tabIndex={0} role="group" aria-label="Source">
      <ol>
        {source.split('\n').map((text, index) => (
          <li key={index} {...(index + 1 === line && { class: 'marked', 'aria-current': 'true' as const })}>
            <code>{text === '' ? ' ' : legible(text)}</code>
            {index + 1 === line ? <span class="visually-hidden"> (the error is here)</span> : null}
          </li>
        ))}
      </ol>
    </div>
  );
}

export function Failure({ job }: { readonly job: JobWithDocument }): JSX.Element | null {
  const error: JobStatus['error'] = job.error;
  if (error === undefined) return null;
  const { code, message, hint, path, remote } = error;
  const origin = sourceOf(job);
  return (
    <Card title="Error">
      <div class="problem">
        <strong>{legible(message)}</strong>
        {hint ? <p>{hint}</p> : null}
        <p class="muted">
          <code>{code}</code>
          {path ? ` at ${path}` : ''}
        </p>
      </div>
      {origin !== undefined && remote?.line != null ? (
        <>
          <h3>
            Source of {origin.name}, line {remote.line}
          </h3>
          <Source source={origin.source} line={remote.line} />
        </>
      ) : null}
      {remote?.traceback ? (
        <>
          <h3>Traceback</h3>
          <pre class="log" tabIndex={0}>
            {legible(remote.traceback)}
          </pre>
        </>
      ) : null}
    </Card>
  );
}
