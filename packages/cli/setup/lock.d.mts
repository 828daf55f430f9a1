/** Types of lock.mjs. */
import type { Progress } from './progress.mjs';

export function takeLock(path: string, progress: Progress): Promise<() => void>;
