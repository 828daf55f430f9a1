/**
 * A process that is kept running: started, watched, started again with back-off when it dies, together with
 * the parts that need it. Not here: what a part is; this folder knows nothing of stacks.
 * @module
 */
import type { GuardedProcess } from './guarded-process.js';
import { abortable, pause } from './wait.js';

const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 15_000;
/** What ran this long before it died is started again without a longer delay. */
const STABLE_MS = 30_000;

export interface PartOptions {
  readonly name: string;
  /** Must be ready before. */
  readonly after?: Part | undefined;
  /** Must be ready before, and its death ends this one too. */
  readonly needs?: Part | undefined;
  /** Resolves when the part answers its probe; ends what it started when it throws. */
  readonly start: (signal: AbortSignal) => Promise<GuardedProcess>;
  readonly onProgress: (message: string) => void;
  /** The set of running processes has changed. */
  readonly onChange: () => void;
}

export class Part {
  readonly name: string;
  readonly #options: PartOptions;
  readonly #stopping = new AbortController();
  private readonly dependents: Part[] = [];
  #process: GuardedProcess | undefined;
  #launching = new AbortController();
  #ready: Promise<void> | undefined;
  #kept: Promise<void> = Promise.resolve();

  constructor(options: PartOptions) {
    this.name = options.name;
    this.#options = options;
    options.needs?.dependents.push(this);
  }

  /** The running command; undefined while there is none. */
  get pid(): number | undefined {
    return this.#process?.ended === undefined ? this.#process?.pid : undefined;
  }

  /** Settles with the present start: the first one may reject, a later one does not. */
  async whenReady(): Promise<void> {
    await this.#ready;
  }

  /** The first start. @throws what `options.start` throws; nothing is running then */
  start(signal: AbortSignal): Promise<void> {
    this.#ready = this.#launch(AbortSignal.any([signal, this.#stopping.signal])).then(() => {
      this.#kept = this.#keep();
    });
    this.#ready.catch(() => undefined); // told to the caller, who awaits it later than the others
    return this.#ready;
  }

  /** Ends it for good; resolves when nothing of it is left. */
  async stop(how: 'stop' | 'kill' = 'stop'): Promise<void> {
    this.#stopping.abort();
    await this.#ready?.catch(() => undefined);
    await this.#process?.[how]();
    await this.#kept;
  }

  /** Ends the process, or the start of one, so that it is started again. */
  private bounce(): void {
    this.#launching.abort();
    void this.#process?.kill(); // what it needed is gone: there is nothing to end in good order
  }

  async #launch(outer: AbortSignal): Promise<void> {
    this.#launching = new AbortController();
    const signal = AbortSignal.any([outer, this.#launching.signal]);
    await abortable(Promise.all([this.#options.after?.whenReady(), this.#options.needs?.whenReady()]), signal);
    const started = Date.now();
    this.#process = await this.#options.start(signal);
    this.#options.onProgress(`ready after ${((Date.now() - started) / 1000).toFixed(1)} s (pid ${this.#process.pid})`);
    this.#options.onChange();
  }

  async #keep(): Promise<void> {
    let delay = FIRST_DELAY_MS;
    for (;;) {
      const started = Date.now();
      const reason = await this.#process!.exited;
      if (this.#stopping.signal.aborted) return;
      if (Date.now() - started > STABLE_MS) delay = FIRST_DELAY_MS;
      this.#options.onProgress(`${reason}; starting it again`);
      this.#options.onChange();
      this.#ready = this.#relaunch(() => (delay = Math.min(delay * 2, LONGEST_DELAY_MS)));
      for (const dependent of this.dependents) dependent.bounce();
      await this.#ready;
      if (this.#stopping.signal.aborted) return;
    }
  }

  /** Never rejects: goes on until it runs or is to stop. */
  async #relaunch(nextDelay: () => number): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      await pause(nextDelay(), this.#stopping.signal);
      try {
        return await this.#launch(this.#stopping.signal);
      } catch (problem) {
        if (!this.#stopping.signal.aborted) this.#options.onProgress((problem as Error).message);
      }
    }
  }
}
