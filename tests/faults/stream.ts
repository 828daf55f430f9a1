/** Jobs that keep coming while faults happen: every one must come to its one end, with its answer. */
import { isPatchbayError } from '@patchbay/protocol';
import type { JobHandle } from '@patchbay/sdk';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Stage } from './scene.js';
import { answerOf, specOf, type Kind } from './specs.js';
import { checkEnd, patiently } from './strike.js';

const KINDS_OF_STREAM: readonly Kind[] = ['short', 'generation', 'collectives'];
const PAUSE_MS = 700;

export class Stream {
  private over = false;
  private readonly problems: string[] = [];
  private readonly checks: Promise<void>[] = [];
  private readonly feeding: Promise<void>;

  constructor(
    private readonly scene: Stage,
    private readonly next: () => number,
  ) {
    this.feeding = this.feed();
  }

  /** Resolves when the last job has ended. */
  async end(): Promise<{ jobs: number; problems: readonly string[] }> {
    this.over = true;
    await this.feeding;
    await Promise.all(this.checks);
    return { jobs: this.checks.length, problems: this.problems };
  }

  private async feed(): Promise<void> {
    for (; !this.over; await sleep(PAUSE_MS * 2 * this.next())) {
      const kind = KINDS_OF_STREAM[Math.floor(this.next() * KINDS_OF_STREAM.length)]!;
      try {
        const job = await patiently(() => this.scene.client.jobs.submit(specOf(kind, this.scene.model)));
        this.checks.push(
          this.check(job, kind).catch(
            (problem: unknown) => void this.problems.push(`${kind} ${job.id}: ${String(problem)}`),
          ),
        );
      } catch (cause) {
        if (!isPatchbayError(cause, 'PB_SUBMIT_TIMEOUT')) this.problems.push(`submission of ${kind}: ${String(cause)}`);
      }
    }
  }

  private async check(job: JobHandle, kind: Kind): Promise<void> {
    const { status } = await checkEnd(job);
    if (status.state === 'completed') {
      const answer = answerOf(await patiently(() => job.result()));
      if (answer !== this.scene.answers.get(kind)) throw new Error('another answer than without faults');
      return;
    }
    // its sandbox may have been the one that was hit, and two faults in a row may have taken its ranks twice
    const allowed = ['PB_EDIT_CRASHED', 'PB_SANDBOX_FAILED', 'PB_EDIT_TIMEOUT', 'PB_JOB_STALLED'];
    if (!allowed.includes(status.error?.code ?? '')) throw new Error(JSON.stringify(status));
  }
}
