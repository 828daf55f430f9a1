/** What a job says while it runs: its edits' prints, the tokens it generates, how far it is. @module */
import type { JobEvent } from '@patchbay/protocol';
import { legible, visible } from '@patchbay/charts';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Card, Empty } from '../look/parts.js';

type Of<T extends JobEvent['type']> = Extract<JobEvent, { type: T }>;
const of = <T extends JobEvent['type']>(events: readonly JobEvent[], type: T): Of<T>[] =>
  events.filter((event): event is Of<T> => event.type === type);

export function Logs({ events, over }: { readonly events: readonly JobEvent[]; readonly over: boolean }): JSX.Element {
  const box = useRef<HTMLPreElement>(null);
  const lines = of(events, 'log');
  // a print may have several
  const count = lines.reduce((sum, { text }) => sum + text.replace(/\n$/, '').split('\n').length, 0);
  useEffect(() => {
    const view = box.current;
    // who reads further up is left there
    if (view !== null && view.scrollHeight - view.scrollTop - view.clientHeight < 80)
      view.scrollTop = view.scrollHeight;
  }, [lines.length]);
  return (
    <Card title="Logs" aside={<span class="muted">{count === 1 ? '1 line' : `${count} lines`}</span>}>
      {lines.length === 0 ? <Empty title={over ? 'The edits printed nothing.' : 'Nothing printed yet.'} /> : null}
      {lines.length === 0 ? null : (
        <pre class="log" ref={box} tabIndex={0} role="log" aria-label="What the edits print">
          {lines.map(({ text }) => legible(text).replace(/\n?$/, '\n')).join('')}
        </pre>
      )}
    </Card>
  );
}

export function Tokens({ events }: { readonly events: readonly JobEvent[] }): JSX.Element | null {
  const rows = new Map<string, Of<'token'>[]>();
  for (const token of of(events, 'token')) {
    const key = `${token.run}, row ${token.row}`;
    rows.set(key, [...(rows.get(key) ?? []), token]);
  }
  if (rows.size === 0) return null;
  return (
    <Card title="Generated tokens">
      {[...rows].map(([name, tokens]) => (
        <div class="tokens" key={name}>
          <h3>{name}</h3>
          <p aria-live="polite">
            {tokens.map(({ text, position, tokenId, step }) => (
              <span class="token" key={step} title={`step ${step}, position ${position}, id ${tokenId}`}>
                {visible(text)}
              </span>
            ))}
          </p>
        </div>
      ))}
    </Card>
  );
}

export function Progress({ events }: { readonly events: readonly JobEvent[] }): JSX.Element | null {
  const latest = new Map(of(events, 'progress').map((event) => [event.run, event]));
  if (latest.size === 0) return null;
  return (
    <Card title="Progress">
      {[...latest].map(([run, { done, total, loss }]) => (
        <label class="progress" key={run}>
          {run}: {done} of {total}
          {loss == null ? '' : `, loss ${loss.toPrecision(4)}`}
          <progress value={done} max={total} />
        </label>
      ))}
    </Card>
  );
}
