/** Leaving in good order: no more jobs are taken, those that run end, then the process may go. Asked for over HTTP. @module */
import type { DrainState } from '@patchbay/protocol/http';
import type { Consumer } from './jobs/consumer.js';

export class Drain {
  private draining = false;
  private tell: () => void = () => undefined;
  /** Resolves when the last job has ended after `begin`. */
  readonly done = new Promise<void>((resolve) => (this.tell = resolve));

  constructor(private readonly consumer: Consumer) {}

  /** Idempotent; there is no way back but a new process. */
  begin(): DrainState {
    if (!this.draining) void this.consumer.drain().finally(this.tell);
    this.draining = true;
    return this.state();
  }

  state(): DrainState {
    return { draining: this.draining, running: this.consumer.running().length };
  }
}
