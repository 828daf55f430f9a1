/** Types of what the command `setup` uses of this folder's scripts, which run before anything is compiled. */
import type { Progress } from './progress.mjs';

interface Environment {
  readonly venv: string;
  readonly cwd: string;
}

export const HOW_LONG: string;
export function makeVenv(environment: Environment, progress: Progress): Promise<void>;
export function installPackages(
  options: Environment & { readonly target: readonly string[]; readonly again: boolean },
  progress: Progress,
): Promise<void>;
export function checkImports(environment: Environment, progress: Progress, more?: string): Promise<void>;
