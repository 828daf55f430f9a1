/** Runs the scripts of jobs, as Redis functions where Redis has such. Not here: what they do (protocol). @module */
import { JOB_LIBRARY, functionCall, lacksFunction, type EvalCall } from '@patchbay/protocol';
import type { Redis } from './redis.js';

export class Scripts {
  private loaded = false;

  /** @param onLost - hears that Redis had lost them, and why they cannot be loaded again, if so */
  constructor(
    private readonly redis: Redis,
    private readonly onLost: (reason: string | undefined) => void = () => undefined,
  ) {}

  /** Resolves to why there are none, if so. */
  async load(): Promise<string | undefined> {
    try {
      await this.redis.function('LOAD', JOB_LIBRARY.text);
    } catch (cause) {
      const reason = (cause as Error).message;
      if (!/Library .* already exists/.test(reason)) return reason;
    }
    this.loaded = true;
    return undefined;
  }

  async run(call: EvalCall): Promise<unknown> {
    const asFunction = this.loaded ? functionCall(call) : undefined;
    if (asFunction === undefined) return this.redis.eval(...call);
    try {
      return await this.redis.fcall(...asFunction);
    } catch (cause) {
      if (!lacksFunction(cause)) throw cause;
      // Redis has lost them, and with them all jobs
      this.loaded = false;
      void this.load().then(this.onLost);
      return this.redis.eval(...call);
    }
  }
}
