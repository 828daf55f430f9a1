/**
 * One gang: a long Execute stream to its supervisor, demultiplexed by (job, attempt), and the way through the gateway where
 * the supervisor cannot be dialled. A break of the stream resends the same starts; the supervisor answers from memory.
 * Not here: which gang gets a job (placement), what its outcome means (jobs/run-job.ts).
 * @module
 */
import { credentials } from '@grpc/grpc-js';
import { error, isPatchbayError, type PatchbayError } from '@patchbay/protocol';
import { GangClient, type ExecuteRequest, type ExecuteResponse } from '@patchbay/protocol/worker';
import { CHANNEL_OPTIONS, bearer, reasonOf, sentError } from './channel.js';
import {
  cancelRequest,
  readError,
  readUpdate,
  startAgain,
  startRequest,
  validateRequest,
  type GangJob,
  type GangKey,
  type GangUpdate,
} from './convert.js';
import type { Gateway } from './gateway.js';
import { LongStream } from './long-stream.js';

export type ControlRoute = 'direct' | 'gateway';

/** Where a gang is and which of its lives is meant. */
export interface GangTarget {
  readonly deployment: string;
  readonly replica: number;
  readonly epoch: number;
  readonly address: string;
  readonly token: string;
}

export interface GangHandlers {
  readonly onRunning: () => void;
  /** `seq` counts them. A promise holds the gang's further messages back until it resolves. */
  readonly onEvent: (json: Buffer, seq: number) => Promise<unknown> | undefined;
  /** Just before the end of a job that is traced. */
  readonly onSpans?: (json: Buffer) => void;
}

export interface GangRun {
  /** The result's JSON. @throws the gang's own error, or `PB_GANG_LOST` */
  readonly done: Promise<{ readonly json: Buffer; readonly route: ControlRoute }>;
  /** Asks the gang to stop the job; `done` then rejects when it has. */
  cancel(reason: string): void;
}

interface Open {
  readonly key: GangKey;
  readonly request: ExecuteRequest;
  readonly handlers: GangHandlers;
  readonly resolve: (end: { json: Buffer; route: ControlRoute }) => void;
  readonly reject: (cause: PatchbayError) => void;
  route: ControlRoute | undefined;
  cancelled: string | undefined;
  /** The last numbered update that was heard. */
  heard: number;
}

/** Cause of a loss that the gang itself did not tell of: the job may never have reached its ranks. */
export const NOT_BY_THE_RANKS = new Error('the way to the gang was lost');

const NO_HANDLERS: GangHandlers = { onRunning: () => undefined, onEvent: () => undefined };
const idOf = (key: GangKey): string => `${key.jobId}/${key.attempt}`;

export class GangConnection {
  private readonly open = new Map<string, Open>();
  private readonly stream: LongStream<ExecuteRequest, ExecuteResponse>;
  private lost: PatchbayError | undefined;
  private giveUp: NodeJS.Timeout | undefined;
  private validations = 0;

  constructor(
    readonly target: GangTarget,
    private readonly gateway: Gateway,
    private readonly graceMs: number,
  ) {
    const client = new GangClient(target.address, credentials.createInsecure(), CHANNEL_OPTIONS);
    this.stream = new LongStream<ExecuteRequest, ExecuteResponse>({
      client,
      open: () => client.execute(bearer(target.token)),
      onMessage: (message) => this.receive(message),
      greeting: () => this.resend(),
      onBreak: (cause, final) => this.broken(cause, final),
    });
  }

  /** Starts a job, or with the same attempt finds it again. */
  execute(job: GangJob, handlers: GangHandlers): GangRun {
    const { epoch } = this.target;
    const key = { jobId: job.jobId, attempt: job.attempt, epoch };
    const done = this.ask(key, startRequest(job, epoch), handlers);
    return { done, cancel: (reason) => this.cancel(key, reason) };
  }

  /** All checks of a document that need no device. Resolves to its warnings. @throws the error of the first check that fails */
  async validate(document: string): Promise<string[]> {
    const key = { jobId: `validate-${++this.validations}`, attempt: 0, epoch: this.target.epoch };
    const { json } = await this.ask(key, validateRequest(key, document), NO_HANDLERS);
    return (JSON.parse(json.toString()) as { warnings: string[] }).warnings;
  }

  /** Ends the connection; what is open on it fails with `cause`. */
  close(cause: PatchbayError = this.gangLost('the replica is gone')): void {
    if (this.lost !== undefined) return;
    this.lost = cause;
    clearTimeout(this.giveUp);
    for (const entry of [...this.open.values()]) this.settle(entry, () => entry.reject(cause));
    this.stream.close();
  }

  private ask(
    key: GangKey,
    request: ExecuteRequest,
    handlers: GangHandlers,
  ): Promise<{ json: Buffer; route: ControlRoute }> {
    return new Promise((resolve, reject) => {
      if (this.lost !== undefined) return reject(this.lost);
      const entry: Open = { key, request, handlers, resolve, reject, route: undefined, cancelled: undefined, heard: 0 };
      this.open.set(idOf(key), entry);
      if (this.stream.isOpen) this.sendDirect(entry);
      else void this.stream.whenOpen().then((open) => this.route(entry, open));
    });
  }

  private route(entry: Open, streamIsOpen: boolean): void {
    // settled, or sent by a greeting meanwhile
    if (!this.open.has(idOf(entry.key)) || entry.route !== undefined) return;
    if (streamIsOpen) this.sendDirect(entry);
    else void this.goVia(entry);
  }

  private sendDirect(entry: Open): void {
    entry.route = 'direct';
    this.stream.write(entry.request);
    if (entry.cancelled !== undefined) this.stream.write(cancelRequest(entry.key, entry.cancelled));
  }

  private resend(): ExecuteRequest[] {
    clearTimeout(this.giveUp);
    this.giveUp = undefined;
    const direct = [...this.open.values()].filter((entry) => entry.route !== 'gateway');
    return direct.flatMap((entry) => {
      entry.route = 'direct';
      const request = startAgain(entry.request, entry.heard);
      return entry.cancelled === undefined ? [request] : [request, cancelRequest(entry.key, entry.cancelled)];
    });
  }

  /** The same request as one call through the gateway. */
  private async goVia(entry: Open): Promise<void> {
    entry.route = 'gateway';
    const { deployment, replica } = this.target;
    try {
      await this.gateway.executeVia({ deployment, replica, request: entry.request }, (message) =>
        this.receive(message),
      );
      entry.reject(this.gangLost('the gateway ended the call without a result'));
    } catch (cause) {
      // what the job itself failed with has come as a message
      entry.reject(this.asLost(cause));
    }
    this.open.delete(idOf(entry.key));
  }

  private cancel(key: GangKey, reason: string): void {
    const entry = this.open.get(idOf(key));
    if (entry === undefined || entry.cancelled !== undefined) return;
    entry.cancelled = reason;
    const request = cancelRequest(key, reason);
    if (entry.route === 'direct') this.stream.write(request);
    if (entry.route !== 'gateway') return;
    const { deployment, replica } = this.target;
    // the answer comes on the call of the job itself
    this.gateway.executeVia({ deployment, replica, request }, () => undefined).catch(() => undefined);
  }

  private receive(message: ExecuteResponse): Promise<unknown> | undefined {
    const entry = message.key === undefined ? undefined : this.open.get(idOf(message.key));
    const update = readUpdate(message);
    // of an attempt that is over, or a newer cluster's message
    if (entry === undefined || update === undefined || message.key?.epoch !== this.target.epoch) return undefined;
    if (message.seq !== 0) {
      if (message.seq <= entry.heard) return undefined;
      entry.heard = message.seq;
    }
    return this.apply(entry, update, message.seq);
  }

  private apply(entry: Open, update: GangUpdate, seq: number): Promise<unknown> | undefined {
    switch (update.kind) {
      case 'running':
        entry.handlers.onRunning();
        return undefined;
      case 'event':
        return entry.handlers.onEvent(update.json, seq);
      case 'failed':
        this.tellSpans(entry, update.spans);
        this.settle(entry, () => entry.reject(this.asFailed(update.json)));
        return undefined;
      case 'done':
        this.tellSpans(entry, update.spans);
        this.resolve(entry, update.json);
        return undefined;
      case 'validated':
        this.resolve(entry, update.json);
        return undefined;
    }
  }

  private resolve(entry: Open, json: Buffer): void {
    this.settle(entry, () => entry.resolve({ json, route: entry.route ?? 'direct' }));
  }

  private tellSpans({ handlers }: Open, spans: Buffer): void {
    if (spans.length > 0) handlers.onSpans?.(spans);
  }

  /** The record alone decides which attempt is stale; to the gang, an older epoch is one, too. */
  private asFailed(json: Buffer): PatchbayError {
    const told = readError(json);
    return told.code === 'PB_STALE_ATTEMPT' ? this.gangLost(told.message) : told;
  }

  private settle(entry: Open, tell: () => void): void {
    this.open.delete(idOf(entry.key));
    tell();
  }

  /** False when the supervisor refuses this epoch for good: nothing can be asked of it any more. */
  get usable(): boolean {
    return this.lost === undefined;
  }

  private broken(cause: Error, final: boolean): void {
    const sent = sentError(cause);
    const lost = this.asLost(sent ?? cause);
    // a supervisor that answers, and not with the stream, serves this epoch no more
    if (final || sent !== undefined) return this.close(lost);
    // from the first break on, not from the last
    this.giveUp ??= setTimeout(() => this.abandon(lost), this.graceMs);
  }

  private abandon(lost: PatchbayError): void {
    this.giveUp = undefined;
    for (const entry of [...this.open.values()])
      if (entry.route === 'direct') this.settle(entry, () => entry.reject(lost));
  }

  /** Not the job's fault, whatever its code: another attempt may succeed. */
  private asLost(cause: unknown): PatchbayError {
    if (isPatchbayError(cause, 'PB_GANG_LOST')) return cause;
    return this.gangLost(isPatchbayError(cause) ? cause.message : reasonOf(cause));
  }

  private gangLost(reason: string): PatchbayError {
    const { deployment: model, epoch } = this.target;
    return error('PB_GANG_LOST', { model, epoch, reason }, { cause: NOT_BY_THE_RANKS });
  }
}
