/**
 * One job's whole life in one attempt: claim a replica, run there, and one place (`settle`) that turns any outcome into a
 * state. Not here: leases (consumer.ts), the legality of a step (the Lua script).
 * @module
 */
import {
  error,
  parseJobDocument,
  toPatchbayError,
  type ErrorCode,
  type JobDocument,
  type PatchbayError,
} from '@patchbay/protocol';
import type { Checkpoint } from '../cluster-client/convert.js';
import type { ControlRoute, GangRun } from '../cluster-client/gang.js';
import type { OrchestratorConfig } from '../config.js';
import type { Tickets } from '../artifacts/tickets.js';
import type { Logger } from '../log.js';
import type { Metrics } from '../metrics.js';
import type { Claim } from '../placement/claim.js';
import { JobClock, completeResult } from './complete-result.js';
import type { EventLog } from './event-log.js';
import type { BegunJob, JobRecords } from './job-record.js';
import { settledWithin } from './settled-within.js';
import { Stopped, type StopCause, type StopSwitch } from './stop.js';

/** A job that BullMQ gave to this process. */
export interface Lease {
  readonly jobId: string;
  readonly model: string;
  /** Fencing token: BullMQ's count of starts. */
  readonly attempt: number;
  /** No retry is left after this attempt. */
  readonly isLast: boolean;
  /** How often a consumer of the job vanished. */
  readonly stalls: number;
}

export interface JobParts {
  readonly records: JobRecords;
  readonly events: EventLog;
  readonly tickets: Tickets;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly limits: Pick<OrchestratorConfig, 'placeTimeoutMs' | 'cancelGraceMs'>;
  readonly artifactUrl: () => string;
  readonly claim: (model: string, signal: AbortSignal, limitMs: number) => Promise<Claim>;
}

/** What the queue has to do: forget the job, start it again, or put it back as if it had not been started. */
export type Ending = 'over' | 'retry' | 'put back';

type Outcome =
  | { readonly kind: 'completed'; readonly result: string }
  | { readonly kind: 'stopped'; readonly cause: StopCause }
  | { readonly kind: 'failed'; readonly error: PatchbayError };

/** Started more often than this by consumers or ranks that then vanished, a job is taken for the culprit. */
const MAX_LOST_WORKERS = 2;
/** After these a replica is not given the next job until the cluster had time to tell what happened. */
const SUSPICIOUS: readonly ErrorCode[] = ['PB_GANG_LOST', 'PB_MODEL_NOT_READY'];
/** The gang's own deadline is only for when nobody stops the job from here. */
const DEADLINE_SLACK_MS = 5_000;
const TICKET_SLACK_MS = 60_000;

export async function runJob(lease: Lease, stop: StopSwitch, parts: JobParts): Promise<Ending> {
  const clock = new JobClock();
  const begun = await parts.records.begin(lease.jobId, lease.attempt);
  if (begun === undefined) return 'over';
  const outcome = await new Attempt(lease, begun, stop, parts, clock).run();
  return settle(lease, outcome, parts);
}

/** One place that turns any outcome into a state. */
async function settle(lease: Lease, outcome: Outcome, parts: JobParts): Promise<Ending> {
  const { jobId, attempt } = lease;
  const end = async (
    state: 'completed' | 'failed' | 'cancelled',
    step: { result?: string; failure?: PatchbayError },
  ): Promise<Ending> => {
    const { result, failure } = step;
    const told = {
      ...(result !== undefined && { result }),
      ...(failure && { reason: failure.message, error: failure.toJSON() }),
    };
    const answer = await parts.records.transition(jobId, state, attempt, told);
    if (answer === 'ok') parts.metrics.ended(lease.model, state);
    else parts.log.warn({ jobId, attempt, state, answer }, 'the end of a job was refused');
    return 'over';
  };
  const requeue = async (reason: string, ending: Ending): Promise<Ending> => {
    await parts.records.transition(jobId, 'queued', attempt, { reason });
    return ending;
  };
  switch (outcome.kind) {
    case 'completed':
      return end('completed', { result: outcome.result });
    case 'failed': {
      const failure = await blame(lease, outcome.error, parts.records);
      return failure.retryable && !lease.isLast
        ? requeue(`${failure.code}: ${failure.message}`, 'retry')
        : end('failed', { failure });
    }
    case 'stopped':
      switch (outcome.cause.why) {
        case 'cancelled':
          return end('cancelled', { failure: error('PB_JOB_CANCELLED', { reason: outcome.cause.reason }, { jobId }) });
        case 'deadline':
          return end('failed', { failure: error('PB_JOB_TIMEOUT', { timeoutMs: outcome.cause.timeoutMs }, { jobId }) });
        case 'shutdown':
          return requeue('the orchestrator is shutting down', 'put back');
        case 'lease lost':
          return 'over';
      }
  }
}

/** A job under which the ranks are lost again is not given to a third set of them. */
async function blame(lease: Lease, failure: PatchbayError, records: JobRecords): Promise<PatchbayError> {
  if (failure.code !== 'PB_GANG_LOST') return failure;
  const losses = await records.countLostWorker(lease.jobId);
  if (losses < MAX_LOST_WORKERS) return failure;
  return error('PB_JOB_STALLED', { attempts: losses }, { jobId: lease.jobId, cause: failure });
}

/** The part of a job's life that holds a replica. Never throws. */
class Attempt {
  private running = false;
  private resume: Readonly<Record<string, Checkpoint>> = {};
  private deadline: NodeJS.Timeout | undefined;

  constructor(
    private readonly lease: Lease,
    private readonly begun: BegunJob,
    private readonly stop: StopSwitch,
    private readonly parts: JobParts,
    private readonly clock: JobClock,
  ) {}

  async run(): Promise<Outcome> {
    try {
      const { cancelRequested, document: text } = this.begun;
      if (cancelRequested !== undefined) this.stop.stop({ why: 'cancelled', reason: cancelRequested });
      if (this.lease.stalls > MAX_LOST_WORKERS) throw error('PB_JOB_STALLED', { attempts: this.lease.stalls });
      const document = parseJobDocument(JSON.parse(text));
      const patience = Math.max(this.parts.limits.placeTimeoutMs, document.limits.timeoutMs);
      this.resume = await this.parts.events.checkpoints(this.lease.jobId, this.lease.attempt);
      const claim = await this.parts.claim(this.lease.model, this.stop.signal, patience);
      return { kind: 'completed', result: await this.runOn(claim, document) };
    } catch (cause) {
      if (cause instanceof Stopped) return { kind: 'stopped', cause: cause.cause };
      return { kind: 'failed', error: toPatchbayError(cause, this.lease.jobId) };
    } finally {
      clearTimeout(this.deadline);
    }
  }

  private async runOn(claim: Claim, document: JobDocument): Promise<string> {
    const sent = this.clock.now();
    const run = this.start(claim, document, sent);
    // the replica is free when the gang is done with the job, which may be after the job's recorded end
    run.done.then(
      () => claim.release(false),
      (cause: unknown) => claim.release(SUSPICIOUS.includes(toPatchbayError(cause).code)),
    );
    const { json, route } = await this.outcomeOf(run);
    this.markRunning(document.limits.timeoutMs);
    const { jobId, attempt, model } = this.lease;
    const moments = { created: this.begun.createdAt, taken: this.clock.taken, sent, done: this.clock.now() };
    const { text, timings } = completeResult(json, { jobId, attempt, model, route, moments });
    this.parts.metrics.timed(model, timings);
    return text;
  }

  private start(claim: Claim, document: JobDocument, sent: number): GangRun {
    const { jobId, attempt } = this.lease;
    const { timeoutMs } = document.limits;
    const deadlineUnixMs = Math.ceil(sent) + timeoutMs + DEADLINE_SLACK_MS;
    const job = {
      jobId,
      attempt,
      document: this.begun.document,
      deadlineUnixMs,
      artifactUrl: this.parts.artifactUrl(),
      ticket: this.parts.tickets.issue(jobId, attempt, deadlineUnixMs + TICKET_SLACK_MS),
      resume: this.resume,
    };
    return claim.gang.execute(job, {
      onRunning: () => this.markRunning(timeoutMs),
      onEvent: (json) => this.parts.events.append(jobId, attempt, json),
    });
  }

  /** The gang's answer; once stopped, the gang is asked to stop and waited for a while, and the stop is the outcome. */
  private async outcomeOf(run: GangRun): Promise<{ json: Buffer; route: ControlRoute }> {
    try {
      const end = await Promise.race([run.done, this.stop.stopped]);
      this.stop.signal.throwIfAborted();
      return end;
    } catch (cause) {
      if (!this.stop.signal.aborted) throw cause;
      const stopped = this.stop.signal.reason as Stopped;
      run.cancel(stopped.message);
      await settledWithin(run.done, this.parts.limits.cancelGraceMs);
      throw stopped;
    }
  }

  /** Not awaited: order on the connection keeps this step before the end. */
  private markRunning(timeoutMs: number): void {
    if (this.running || this.stop.signal.aborted) return;
    this.running = true;
    this.deadline = setTimeout(() => this.stop.stop({ why: 'deadline', timeoutMs }), timeoutMs);
    const { jobId, attempt } = this.lease;
    this.parts.records.transition(jobId, 'running', attempt).then(
      (answer) => {
        if (answer === 'stale' || answer === 'missing') this.stop.stop({ why: 'lease lost' });
      },
      (cause: unknown) => this.parts.log.error({ jobId, err: cause }, 'cannot record that a job runs'),
    );
  }
}
