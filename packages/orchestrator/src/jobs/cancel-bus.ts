/**
 * Hears of jobs to stop: messages on the cancel channel, and the flags in the records after every (re)connection, since
 * nobody keeps messages for a listener that was away.
 * Not here: stopping (consumer.ts), asking (job-record.ts).
 * @module
 */
import { keys } from '@patchbay/protocol';
import { z } from 'zod';
import type { Redis } from '../redis.js';
import type { JobRecords } from './job-record.js';

const message = z.object({ jobId: z.string(), reason: z.string() });

export interface Cancellable {
  /** Jobs that run here. */
  running(): readonly string[];
  cancel(jobId: string, reason: string): void;
}

export class CancelBus {
  constructor(
    private readonly redis: Redis,
    private readonly records: JobRecords,
    private readonly target: Cancellable,
    private readonly onError: (cause: unknown) => void,
  ) {}

  async start(): Promise<void> {
    this.redis.on('message', (_channel: string, text: string) => {
      const parsed = message.safeParse(parseJson(text));
      if (parsed.success) this.target.cancel(parsed.data.jobId, parsed.data.reason);
    });
    this.redis.on('ready', () => void this.listen().catch(this.onError));
    await this.listen();
  }

  /** Subscribes before it reads the flags: nothing falls between the two. */
  private async listen(): Promise<void> {
    await this.redis.subscribe(keys.cancelChannel);
    await this.catchUp();
  }

  private async catchUp(): Promise<void> {
    const running = this.target.running();
    const flags = await this.records.cancelRequests(running);
    running.forEach((jobId, index) => {
      const reason = flags[index];
      if (reason !== undefined) this.target.cancel(jobId, reason);
    });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
