/** Small parts that every page uses: states, problems, empty places, cards. @module */
import type { ComponentChildren, JSX } from 'preact';
import type { ApiError } from '../api.js';

const SIGNS: Readonly<Record<string, string>> = {
  queued: '○',
  placing: '◔',
  running: '◐',
  completed: '●',
  failed: '✕',
  cancelled: '⊘',
  expired: '⊘',
  ready: '●',
  deploying: '◐',
  starting: '◐',
  restarting: '◐',
  undeploying: '◔',
  alive: '●',
  lost: '✕',
};

/** Told by sign and word, never by colour alone. */
export function State({ state }: { readonly state: string }): JSX.Element {
  return (
    <span class={`state state-${state}`}>
      <span aria-hidden="true">{SIGNS[state] ?? '•'}</span> {state}
    </span>
  );
}

export function Problem({ problem, retry }: { readonly problem: ApiError; readonly retry?: () => void }): JSX.Element {
  const { code, message, hint, path } = problem.detail;
  return (
    <div class="problem" role="alert">
      <strong>{message}</strong>
      {hint ? <p>{hint}</p> : null}
      <p class="muted">
        <code>{code}</code>
        {path ? (
          <>
            {' at '}
            <code>{path}</code>
          </>
        ) : null}
      </p>
      {retry === undefined ? null : (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Waiting({ what }: { readonly what: string }): JSX.Element {
  return (
    <div class="waiting" role="status">
      <span class="bone" />
      <span class="bone" />
      <span class="visually-hidden">Loading {what}</span>
    </div>
  );
}

export function Empty({
  title,
  children,
}: {
  readonly title: string;
  readonly children?: ComponentChildren;
}): JSX.Element {
  return (
    <div class="empty">
      <strong>{title}</strong>
      {children}
    </div>
  );
}

interface CardProps {
  readonly title: string;
  readonly aside?: ComponentChildren;
  readonly children: ComponentChildren;
  readonly id?: string;
}

export function Card({ title, aside, children, id }: CardProps): JSX.Element {
  const heading = `h-${title.replace(/\W+/g, '-').toLowerCase()}`;
  return (
    <section class="card" aria-labelledby={heading} {...(id !== undefined && { id })}>
      <header>
        <h2 id={heading}>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

export function Facts({ facts }: { readonly facts: readonly (readonly [string, ComponentChildren])[] }): JSX.Element {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
