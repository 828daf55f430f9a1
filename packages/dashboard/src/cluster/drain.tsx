/** Takes a deployment out of service without breaking a job off, gives it back, and tells how far that is. @module */
import type { JSX } from 'preact';
import { api, type QueueOverview, type Role } from '../api.js';
import type { Question } from '../look/confirm.js';

const jobs = (count: number): string => `${count.toLocaleString()} ${count === 1 ? 'job' : 'jobs'}`;

/** Nothing while jobs are given out as ever. */
export function Draining({ queue }: { readonly queue: QueueOverview | undefined }): JSX.Element | null {
  if (queue?.draining !== true) return null;
  const { running, waiting } = queue;
  const left = running > 0 ? `draining, ${jobs(running)} still running` : 'drained';
  return (
    <span class="label" role="status">
      {waiting > 0 ? `${left}, ${waiting.toLocaleString()} waiting` : left}
    </span>
  );
}

interface DrainProps {
  readonly queue: QueueOverview | undefined;
  readonly role: Role;
  readonly ask: (question: Question) => void;
  readonly changed: () => void;
}

/** Only for operators. */
export function DrainButton({ queue, role, ask, changed }: DrainProps): JSX.Element | null {
  if (queue === undefined || role !== 'operator') return null;
  const { model, draining } = queue;
  const drain = (): void =>
    ask({
      title: draining ? `Take jobs of ${model} again?` : `Drain ${model}?`,
      text: draining
        ? 'Jobs that wait are given out again.'
        : 'Running jobs go on. Jobs that wait, and new ones, stay in the queue until it is resumed.',
      action: draining ? 'Resume' : 'Drain',
      run: () => api.drain(model, !draining).then(changed),
    });
  return (
    <button type="button" onClick={drain}>
      {draining ? 'Resume' : 'Drain'}
    </button>
  );
}
