/** What must hold of every job's event log, whatever was hit meanwhile. */
import assert from 'node:assert/strict';
import { NEXT, isTerminal, type JobEvent, type JobState } from '@patchbay/protocol';

/** @throws when the log of a job that has ended is not one that may be */
export function checkLog(jobId: string, events: readonly JobEvent[]): JobState {
  const states = events.filter((event) => event.type === 'state');
  const path = states.map(({ state, attempt }) => `${state} ${attempt}`).join(', ');
  assert.equal(states[0]?.state, 'queued', `${jobId}: ${path}`);
  for (const [index, { state, attempt }] of states.entries()) {
    const before = states[index - 1];
    if (before === undefined) continue;
    const next: readonly JobState[] = NEXT[before.state];
    assert.ok(next.includes(state), `${jobId}: ${before.state} -> ${state} in ${path}`);
    assert.equal(attempt, before.attempt + (state === 'placing' ? 1 : 0), `${jobId}: attempts in ${path}`);
  }
  assert.equal(states.filter(({ state }) => isTerminal(state)).length, 1, `${jobId}: one end in ${path}`);
  const last = events.at(-1);
  assert.ok(last?.type === 'state' && isTerminal(last.state), `${jobId}: nothing comes after the end`);
  assert.equal(new Set(events.map(({ cursor }) => cursor)).size, events.length, `${jobId}: cursors are different`);
  checkTokens(jobId, events);
  return last.state;
}

/** Within an attempt the tokens of a row come without a gap and without a double. */
function checkTokens(jobId: string, events: readonly JobEvent[]): void {
  const next = new Map<string, number>();
  for (const event of events) {
    if (event.type !== 'token') continue;
    const key = `${event.attempt}/${event.run}/${event.row}`;
    assert.equal(event.step, next.get(key) ?? 0, `${jobId}: token of ${key}`);
    next.set(key, event.step + 1);
  }
}
