/** Jobs that fit a filter: pages from the service, one after another, and what changes meanwhile. @module */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { api, type ApiError, type JobFilter, type JobStatus } from '../api.js';
import { useChanges, type Change } from '../live/use-changes.js';
import { problemOf } from '../live/use-loaded.js';

const PAGE = 200;
const PAUSE_MS = 400;

interface List {
  readonly jobs: readonly JobStatus[];
  readonly cursor: string | undefined;
  readonly ended: boolean;
}

export interface JobList extends List {
  readonly problem: ApiError | undefined;
  readonly loading: boolean;
  readonly more: () => void;
  readonly refresh: () => void;
}

const NOTHING: List = { jobs: [], cursor: undefined, ended: false };

/** The newest page in place of what it covers, the older ones as they are. */
function merged(old: List, jobs: readonly JobStatus[], nextCursor: string | undefined): List {
  const known = new Set(jobs.map(({ id }) => id));
  const oldest = jobs.at(-1)?.createdAt ?? 0;
  if (nextCursor === undefined) return { jobs, cursor: undefined, ended: true };
  const older = old.jobs.filter(({ id, createdAt }) => createdAt < oldest && !known.has(id));
  if (older.length === 0) return { jobs, cursor: nextCursor, ended: false };
  return { ...old, jobs: [...jobs, ...older] };
}

/** The jobs with the states that they have now. */
function stepped(jobs: readonly JobStatus[], changes: readonly Change[]): JobStatus[] {
  const latest = new Map(changes.map((change) => [change.id, change]));
  return jobs.flatMap((job) => {
    const change = latest.get(job.id);
    if (change === undefined) return [job];
    return change.state === 'removed' ? [] : [{ ...job, state: change.state, updatedAt: change.at }];
  });
}

export function useJobList(filter: JobFilter): JobList {
  const [list, setList] = useState(NOTHING);
  const [problem, setProblem] = useState<ApiError>();
  const [loading, setLoading] = useState(true);
  const abort = useRef(new AbortController());
  const timer = useRef<number>();
  const busy = useRef(false);

  const newest = useCallback(async () => {
    const { signal } = abort.current;
    try {
      const page = await api.jobs(filter, PAGE, undefined, signal);
      if (signal.aborted) return;
      setList((old) => merged(old, page.jobs, page.nextCursor));
      setProblem(undefined);
    } catch (cause) {
      if (!signal.aborted) setProblem(problemOf(cause));
    }
    setLoading(false);
  }, [JSON.stringify(filter)]);

  useEffect(() => {
    abort.current = new AbortController();
    setList(NOTHING);
    setLoading(true);
    void newest();
    return () => abort.current.abort();
  }, [newest]);

  const refresh = useCallback(() => {
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      void newest();
    }, PAUSE_MS);
  }, [newest]);

  const more = useCallback(() => {
    if (list.cursor === undefined || busy.current) return;
    busy.current = true;
    const { signal } = abort.current;
    api
      .jobs(filter, PAGE, list.cursor, signal)
      .then(
        ({ jobs, nextCursor }) =>
          signal.aborted ||
          setList((old) => ({ jobs: [...old.jobs, ...jobs], cursor: nextCursor, ended: nextCursor === undefined })),
        (cause: unknown) => signal.aborted || setProblem(problemOf(cause)),
      )
      .finally(() => (busy.current = false));
  }, [list.cursor, newest]);

  useChanges((news) => {
    if (news.kind === 'jobs') setList((old) => ({ ...old, jobs: stepped(old.jobs, news.changes) }));
    refresh();
  });
  return { ...list, problem, loading, more, refresh };
}
