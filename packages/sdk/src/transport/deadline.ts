/** Bounds a wait by the caller's signal and timeout. Not here: what is waited for; it goes on when the wait ends. @module */
import { error, type PatchbayError } from '@patchbay/protocol';

/** What every call that waits accepts. */
export interface CallOptions {
  /** Ends the wait with `PB_ABORTED`; the reason becomes the error's `cause`. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds until the wait ends with the call's timeout error. */
  readonly timeoutMs?: number | undefined;
}

/** @throws `PB_ABORTED` */
export function throwIfAborted(signal: AbortSignal | undefined, jobId?: string): void {
  if (signal?.aborted === true) throw error('PB_ABORTED', {}, { jobId, cause: signal.reason });
}

/** Waits for `work`, but not longer than the options allow; leaves no timer and no listener behind. */
export async function bounded<T>(
  work: PromiseLike<T>,
  options: CallOptions,
  onTimeout: () => PatchbayError,
  jobId?: string,
): Promise<T> {
  const { signal, timeoutMs } = options;
  if (signal === undefined && timeoutMs === undefined) return work;
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  const limit = new Promise<never>((_, reject) => {
    onAbort = () => reject(error('PB_ABORTED', {}, { jobId, cause: signal?.reason }));
    if (signal?.aborted === true) return onAbort();
    signal?.addEventListener('abort', onAbort);
    if (timeoutMs !== undefined) timer = setTimeout(() => reject(onTimeout()), timeoutMs);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
    if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
    Promise.resolve(work).catch(() => undefined); // a late failure of what nobody waits for any more is not unhandled
  }
}
