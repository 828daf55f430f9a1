/** Something that is asked for, and asked for again when told; the last answer stays while the next one is on its way. @module */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.js';

export interface Loaded<T> {
  readonly value: T | undefined;
  readonly problem: ApiError | undefined;
  /** Asks again soon; many calls within the pause are one. */
  readonly refresh: () => void;
}

export const problemOf = (cause: unknown): ApiError =>
  cause instanceof ApiError ? cause : new ApiError({ code: 'PB_INTERNAL', message: String(cause) });

export function useLoaded<T>(
  load: (signal: AbortSignal) => Promise<T>,
  inputs: readonly unknown[],
  { pauseMs = 500, everyMs }: { pauseMs?: number; everyMs?: number } = {},
): Loaded<T> {
  const [state, set] = useState<{ value?: T; problem?: ApiError }>({});
  const timer = useRef<number>();
  const run = useRef<() => void>(() => undefined);
  useEffect(() => {
    const abort = new AbortController();
    run.current = () => {
      load(abort.signal).then(
        (value) => abort.signal.aborted || set({ value }),
        (cause: unknown) => abort.signal.aborted || set((old) => ({ ...old, problem: problemOf(cause) })),
      );
    };
    set({});
    run.current();
    const repeat = everyMs === undefined ? undefined : setInterval(() => document.hidden || run.current(), everyMs);
    return () => {
      abort.abort();
      clearInterval(repeat);
      clearTimeout(timer.current);
      timer.current = undefined;
    };
  }, inputs);
  const refresh = useCallback(() => {
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      run.current();
    }, pauseMs);
  }, []);
  return { value: state.value, problem: state.problem, refresh };
}
