/**
 * The events of one job as they arrive: kept, so that any number of readers can start late; or only its end, for those who wait
 * for that. Not here: Redis.
 * @module
 */
import { isTerminal, jobEvent, type JobEvent, type PatchbayError } from '@patchbay/protocol';
import { bounded, throwIfAborted, type CallOptions } from './deadline.js';
import type { Outcome } from './outcome.js';

export type TerminalEvent = Extract<JobEvent, { type: 'state' }>;

/** An entry of the stream; undefined for a kind of event that only newer clients know. */
export function parseEntry([cursor, [, body]]: readonly [id: string, fields: readonly string[]]): JobEvent | undefined {
  const event = jobEvent.safeParse(JSON.parse(body ?? 'null'));
  return event.success ? { ...event.data, cursor } : undefined;
}

/** True for the last event of a job. */
export function isLast(event: JobEvent): event is TerminalEvent {
  return event.type === 'state' && isTerminal(event.state);
}

/** Compares two positions in a Redis stream (`<ms>-<counter>`). */
export function compareCursors(a: string, b: string): number {
  const [aMs = '0', aCounter = '0'] = a.split('-');
  const [bMs = '0', bCounter = '0'] = b.split('-');
  return Number(aMs) - Number(bMs) || Number(aCounter) - Number(bCounter);
}

export class EventFeed {
  readonly #events: JobEvent[] = [];
  readonly #waiting = new Set<() => void>();
  #cursor = '0-0';
  /** All events are here. */
  #whole = false;
  #last: TerminalEvent | undefined;
  #outcome: Outcome | undefined;
  #failure: PatchbayError | undefined;
  /** Who still waits for something; the follower stops reading for a feed without readers. */
  readers = 0;
  /** Those of them who want every event. */
  eventReaders = 0;

  constructor(readonly jobId: string) {}

  /** Position of the newest entry that arrived. */
  get cursor(): string {
    return this.#cursor;
  }

  /** The event that ended the job. */
  get last(): TerminalEvent | undefined {
    return this.#last;
  }

  /** What the job left, where that was read together with its last event. */
  get outcome(): Outcome | undefined {
    return this.#outcome;
  }

  /** Nothing is to come for those who read. */
  get over(): boolean {
    return this.eventReaders > 0 ? this.#whole : this.#last !== undefined;
  }

  /** The entry of the stream that has nothing but the end. @param outcome - as it was read together with the entry */
  finish(entry: readonly [id: string, fields: readonly string[]], outcome?: Outcome): void {
    const event = parseEntry(entry);
    if (this.#last !== undefined || event === undefined || !isLast(event)) return;
    [this.#last, this.#outcome] = [event, outcome];
    this.#wake();
  }

  /** @param outcome - as it was read together with the entry */
  push(entry: readonly [id: string, fields: readonly string[]], outcome?: Outcome): void {
    if (compareCursors(entry[0], this.#cursor) <= 0) return; // read for another feed of the same job
    this.#cursor = entry[0];
    const event = parseEntry(entry);
    if (event === undefined) return;
    this.#events.push(event);
    this.#whole ||= isLast(event);
    if (this.#last === undefined && isLast(event)) [this.#last, this.#outcome] = [event, outcome];
    this.#wake();
  }

  /** No event will come any more; readers get this error after those that are there. */
  fail(failure: PatchbayError): void {
    this.#failure = failure;
    this.#wake();
  }

  /** Forgets a failure, for another try. */
  recover(): void {
    this.#failure = undefined;
  }

  /** Events after the cursor, until the job has ended. @throws `PB_ABORTED`, `PB_REDIS_UNAVAILABLE`, `PB_JOB_NOT_FOUND` */
  async *read(after: string | undefined, options: CallOptions): AsyncGenerator<JobEvent, void, undefined> {
    for (let index = 0; ;) {
      throwIfAborted(options.signal, this.jobId);
      const event = this.#events[index++];
      if (event === undefined) {
        index--;
        if (this.#whole) return;
        await this.#changed(options);
      } else if (after === undefined || compareCursors(event.cursor, after) > 0) {
        yield event;
      }
    }
  }

  /** Waits for the event that ends the job. */
  async end(): Promise<TerminalEvent> {
    while (this.#last === undefined) await this.#changed({});
    return this.#last;
  }

  async #changed(options: CallOptions): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    let wake: () => void = () => undefined;
    const change = new Promise<void>((resolve) => (wake = resolve));
    this.#waiting.add(wake);
    try {
      await bounded(change, { signal: options.signal }, () => this.#failure!, this.jobId);
    } finally {
      this.#waiting.delete(wake);
    }
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}
