/** The live stream of all jobs' steps: one connection for the whole page, resumed by the browser after a break. @module */
import type { Change } from '@patchbay/protocol/http';
import { useEffect, useRef, useState } from 'preact/hooks';

export type { Change };

export type News =
  { readonly kind: 'jobs'; readonly changes: readonly Change[] } | { readonly kind: 'reset' | 'deployments' };
type Listener = (news: News) => void;

const listeners = new Set<Listener>();
const watchers = new Set<(live: boolean) => void>();
let source: EventSource | undefined;
let live = false;

function tellLive(now: boolean): void {
  live = now;
  watchers.forEach((watcher) => watcher(now));
}

function connect(): void {
  source = new EventSource('/api/changes');
  const tell = (news: News): void => listeners.forEach((listener) => listener(news));
  source.addEventListener('jobs', ({ data }: MessageEvent<string>) =>
    tell({ kind: 'jobs', changes: JSON.parse(data) as Change[] }),
  );
  source.addEventListener('reset', () => tell({ kind: 'reset' }));
  source.addEventListener('deployments', () => tell({ kind: 'deployments' }));
  source.onopen = () => {
    // what has no cursor may have changed while the connection was away
    tell({ kind: 'deployments' });
    tellLive(true);
  };
  source.onerror = () => {
    tellLive(false);
    if (source?.readyState !== EventSource.CLOSED) return;
    source = undefined;
    setTimeout(() => listeners.size > 0 && source === undefined && connect(), 2_000);
  };
}

export function useChanges(listener: Listener): void {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => {
    const tell: Listener = (news) => latest.current(news);
    listeners.add(tell);
    if (source === undefined) connect();
    return () => void listeners.delete(tell);
  }, []);
}

/** Whether the stream is open. */
export function useLive(): boolean {
  const [now, set] = useState(live);
  useEffect(() => {
    watchers.add(set);
    set(live);
    return () => void watchers.delete(set);
  }, []);
  return now;
}
