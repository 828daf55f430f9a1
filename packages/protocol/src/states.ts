/** States of a job and the legal steps between them. The Lua checks and the diagram in docs are printed from here. @module */

/** Every state of a job. */
export const JOB_STATES = ['queued', 'placing', 'running', 'completed', 'failed', 'cancelled', 'expired'] as const;
export type JobState = (typeof JOB_STATES)[number];

/** From each state the states that may follow. `queued` again is a retry with attempt + 1. */
export const NEXT = {
  queued: ['placing', 'failed', 'cancelled', 'expired'],
  placing: ['running', 'queued', 'failed', 'cancelled', 'expired'],
  running: ['completed', 'failed', 'cancelled', 'expired', 'queued'],
  completed: [],
  failed: [],
  cancelled: [],
  expired: [],
} as const satisfies Record<JobState, readonly JobState[]>;

/** True when nothing can follow. */
export function isTerminal(state: JobState): boolean {
  return NEXT[state].length === 0;
}
