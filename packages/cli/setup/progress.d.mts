/** Types of progress.mjs. */
export class SetupError extends Error {
  readonly fix: string;
}

export interface Progress {
  readonly logPath: string;
  note(text: string): void;
  log(text: string): void;
  step<T>(title: string, work: () => Promise<T>, hint?: string): Promise<T>;
  finish(): void;
}

export function createProgress(logPath: string): Progress;
