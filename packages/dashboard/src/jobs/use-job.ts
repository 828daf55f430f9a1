/** One job, live: its status, its result once it is over, and its event log as it grows. @module */
import { useEffect, useState } from 'preact/hooks';
import type { JobEvent } from '@patchbay/protocol';
import { api, type ApiError, type JobResult, type JobWithDocument } from '../api.js';
import { useLoaded } from '../live/use-loaded.js';

export interface LiveJob {
  readonly job: JobWithDocument | undefined;
  readonly result: JobResult | undefined;
  readonly events: readonly JobEvent[];
  readonly problem: ApiError | undefined;
  readonly refresh: () => void;
}

const KEPT = 20_000;
const TYPES = ['state', 'log', 'progress', 'token', 'artifact', 'hook'] as const;
export const OVER = ['completed', 'failed', 'cancelled', 'expired'];

export function useJob(id: string): LiveJob {
  const [events, setEvents] = useState<readonly JobEvent[]>([]);
  const job = useLoaded((signal) => api.job(id, signal), [id], { pauseMs: 50 });
  const over = job.value !== undefined && OVER.includes(job.value.state);
  const result = useLoaded(
    (signal) => (over ? api.result(id, signal) : Promise.resolve(undefined)),
    [id, over, job.value?.attempt],
  );
  useEffect(() => {
    setEvents([]);
    let waiting: JobEvent[] = [];
    const source = new EventSource(`/api/jobs/${encodeURIComponent(id)}/events`);
    const flush = setInterval(() => {
      if (waiting.length === 0) return;
      const news = waiting;
      waiting = [];
      setEvents((old) => [...old, ...news].slice(-KEPT));
      if (news.some(({ type }) => type === 'state')) job.refresh();
    }, 100);
    let ended = false;
    for (const type of TYPES)
      source.addEventListener(type, ({ data }: MessageEvent<string>) => {
        const event = JSON.parse(data) as JobEvent;
        waiting.push(event);
        ended = event.type === 'state' && OVER.includes(event.state);
      });
    // the service ends the stream with the job; what breaks before is resumed by the browser
    source.onerror = () => ended && source.close();
    return () => {
      source.close();
      clearInterval(flush);
    };
  }, [id]);
  return { job: job.value, result: result.value, events, problem: job.problem ?? result.problem, refresh: job.refresh };
}
