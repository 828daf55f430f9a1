/**
 * One bidirectional stream that is kept open: dials, opens, opens again after a break, and respects back-pressure both ways.
 * Knows nothing of what the messages mean: whoever uses it says again, after every opening, what is still of interest.
 * @module
 */
import type { Client, ClientDuplexStream } from '@grpc/grpc-js';
import { dial, isFinal } from './channel.js';

/** How long one dial may take; also what a first job waits before it goes another way. */
export const DIAL_MS = 1_000;
const MAX_PAUSE_MS = 1_000;

export interface LongStreamOptions<Out, In> {
  readonly client: Client;
  readonly open: () => ClientDuplexStream<Out, In>;
  /** A promise holds further messages back until it resolves. */
  readonly onMessage: (message: In) => Promise<unknown> | undefined;
  /** What to send at the start of every stream. */
  readonly greeting: () => readonly Out[];
  /** The stream is away; `final` when the server refuses it for good, then nothing more is tried. */
  readonly onBreak: (cause: Error, final: boolean) => void;
}

export class LongStream<Out, In> {
  private stream: ClientDuplexStream<Out, In> | undefined;
  private closed = false;
  private blocked = false;
  private queue: Out[] = [];
  private wake: (() => void) | undefined;
  private waiting: ((open: boolean) => void)[] = [];
  /** The last dial failed, and no stream was open since. */
  private unreachable = false;

  constructor(private readonly options: LongStreamOptions<Out, In>) {
    void this.keepOpen();
  }

  get isOpen(): boolean {
    return this.stream !== undefined;
  }

  /** Waits for the outcome of the dial under way; at once true when open, false when the last dial failed. */
  async whenOpen(): Promise<boolean> {
    if (this.isOpen || this.closed || this.unreachable) return this.isOpen;
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Sends on the open stream; without one nothing is kept, the next greeting tells it. */
  write(message: Out): void {
    if (this.stream === undefined) return;
    if (this.blocked) this.queue.push(message);
    else this.blocked = !this.stream.write(message);
  }

  close(): void {
    this.closed = true;
    this.stream?.cancel();
    this.wake?.();
    this.answerWaiting(false);
    this.options.client.close();
  }

  private async keepOpen(): Promise<void> {
    let pause = 50;
    while (!this.closed) {
      const reached = await dial(this.options.client, DIAL_MS);
      if (this.closed) return;
      this.unreachable = !reached;
      if (reached) {
        const heard = await this.session();
        if (heard) pause = 50;
      } else {
        this.options.onBreak(new Error('cannot be dialled'), false);
        this.answerWaiting(false);
      }
      if (!this.closed) await this.sleep(pause);
      pause = Math.min(pause * 2, MAX_PAUSE_MS);
    }
  }

  /** From opening to the end of one stream; true when the server was heard on it. */
  private session(): Promise<boolean> {
    return new Promise((resolve) => {
      let heard = false;
      let over = false;
      const stream = this.options.open();
      const end = (cause: Error): void => {
        if (over) return;
        over = true;
        this.stream = undefined;
        const final = isFinal(cause);
        if (final) this.closed = true;
        this.options.onBreak(cause, final);
        resolve(heard);
      };
      stream.on('metadata', () => (heard = true));
      stream.on('data', (message: In) => {
        heard = true;
        this.receive(stream, message);
      });
      stream.on('drain', () => this.flush());
      stream.on('error', end);
      stream.on('end', () => end(new Error('the server ended the stream')));
      this.stream = stream;
      this.blocked = false;
      this.queue = [...this.options.greeting()];
      this.flush();
      this.answerWaiting(true);
    });
  }

  private receive(stream: ClientDuplexStream<Out, In>, message: In): void {
    const hold = this.options.onMessage(message);
    if (hold === undefined) return;
    stream.pause();
    void hold.finally(() => stream.resume());
  }

  private flush(): void {
    this.blocked = false;
    while (!this.blocked && this.stream !== undefined) {
      const message = this.queue.shift();
      if (message === undefined) return;
      this.blocked = !this.stream.write(message);
    }
  }

  private answerWaiting(open: boolean): void {
    for (const resolve of this.waiting.splice(0)) resolve(open);
  }

  private sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
