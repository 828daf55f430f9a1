/** The process log: JSON lines on stderr, stdout belongs to the ready line. Not here: logs of jobs, those are events. @module */
import { destination, pino, type Logger } from 'pino';

export type { Logger };

/** Synchronous, so that the last lines before an exit are there. */
export function createLogger(level: string): Logger {
  return pino({ level, base: { name: 'orchestrator', pid: process.pid } }, destination({ dest: 2, sync: true }));
}

/**
 * Tells of an outage once and of its end once, however often the same thing fails in between.
 * Clients that reconnect by themselves report every try.
 */
export class OutageLog {
  private failing = false;

  constructor(
    private readonly log: Logger,
    private readonly part: string,
  ) {}

  failed(cause: unknown): void {
    if (this.failing) return;
    this.failing = true;
    this.log.warn({ part: this.part, reason: cause instanceof Error ? cause.message : String(cause) }, 'unreachable');
  }

  recovered(): void {
    if (!this.failing) return;
    this.failing = false;
    this.log.info({ part: this.part }, 'reachable again');
  }
}
