/** Prints docs/job-states.md: the diagram of a job's states, from the table that the scripts in Redis go by. */
import { JOB_STATES, NEXT, isTerminal } from '../packages/protocol/src/states.js';

export function jobStatesPage(): string {
  const steps = JOB_STATES.flatMap((from) => NEXT[from].map((to) => `  ${from} --> ${to}`));
  const ends = JOB_STATES.filter(isTerminal).map((state) => `  ${state} --> [*]`);
  return [
    '# States of a job',
    '',
    'Printed by `npm run gen` from `packages/protocol/src/states.ts`; do not edit. [jobs.md](jobs.md) tells the story.',
    '',
    '```mermaid',
    'stateDiagram-v2',
    '  [*] --> queued',
    ...steps,
    ...ends,
    '```',
    '',
  ].join('\n');
}
