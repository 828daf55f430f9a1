/**
 * One job's whole life in one attempt: claim a replica, run there, and one place (`settle`) that turns any outcome into a
 * state. Not here: leases (consumer.ts), the legality of a step (the Lua script).
 * @module
 */
import {
  error,
  timeoutMsOf,
  toPatchbayError,
  type ErrorCode,
  type JobState,
  type PatchbayError,
  type TransitionStep,
} from '@patchbay/protocol';
import type { Checkpoint } from '../cluster-client/convert.js';
import { NOT_BY_THE_RANKS, type ControlRoute, type GangRun } from '../cluster-client/gang.js';
import type { OrchestratorConfig } from '../config.js';
import type { Tickets } from '../artifacts/tickets.js';
import type { Logger } from '../log.js';
import type { Metrics } from '../metrics.js';
import type { Claim } from '../placement/claim.js';
import { AttemptTrace } from '../tracing/job-trace.js';
import type { Tracer } from '../tracing/tracer.js';
import { JobClock, completeResult, type CompleteResult } from './complete-result.js';
import type { EventLog } from './event-log.js';
import type { BegunJob, JobRecords } from './job-record.js';
import { afterFailure, checkLostConsumers } from './retry-policy.js';
import { settledWithin } from './settled-within.js';
import { Stopped, type StopCause, type StopSwitch } from './stop.js';

/** A job that BullMQ gave to this process. */
export interface Lease {
  readonly jobId: string;
  readonly model: string;
}

export interface JobParts {
  readonly records: JobRecords;
  readonly events: EventLog;
  readonly tickets: Tickets;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Only where traces are wanted. */
  readonly tracer?: Tracer | undefined;
  readonly limits: Pick<OrchestratorConfig, 'placeTimeoutMs' | 'cancelGraceMs'>;
  readonly artifactUrl: () => string;
  readonly claim: (model: string, signal: AbortSignal, limitMs: number) => Promise<Claim>;
  /** Lets a job go on that was parked. */
  readonly release: (jobId: string) => void;
}

/** What the queue has to do: forget the job, start it again after a pause, or put it back as if it had not been started. */
export type Ending = 'over' | 'put back' | { readonly pauseMs: number };

type Outcome =
  | { readonly kind: 'completed'; readonly result: CompleteResult }
  | { readonly kind: 'stopped'; readonly cause: StopCause }
  | { readonly kind: 'failed'; readonly error: PatchbayError };

/** After these a replica is not given the next job until the cluster had time to tell what happened. */
const SUSPICIOUS: readonly ErrorCode[] = ['PB_GANG_LOST', 'PB_MODEL_NOT_READY'];
/** The gang's own deadline is only for when nobody stops the job from here. */
const DEADLINE_SLACK_MS = 5_000;
/** A gang that other orchestrators use too may begin with the job much later. */
const TICKET_SLACK_MS = 24 * 3_600_000;

export async function runJob(lease: Lease, stop: StopSwitch, parts: JobParts): Promise<Ending> {
  const clock = new JobClock();
  const begun = await parts.records.begin(lease.jobId);
  // a parked job has no queue entry; it gets one when another job of its submitter ends
  if (begun === 'over' || begun === 'parked') return 'over';
  const trace = AttemptTrace.begin(parts.tracer, { ...lease, ...begun }, clock.taken);
  const outcome = await new Attempt(lease, begun, stop, parts, clock, trace).run();
  const settlement = new Settlement(lease, begun.attempt, parts);
  const ending = await settlement.settle(outcome);
  trace?.ended(clock.now(), settlement.recorded, whyNot(outcome));
  return ending;
}

/** Undefined for a job that is completed. */
function whyNot(outcome: Outcome): string | undefined {
  if (outcome.kind === 'completed') return undefined;
  return outcome.kind === 'failed' ? outcome.error.code : outcome.cause.why;
}

/** One place that turns any outcome into a state. */
class Settlement {
  /** The end of the job, if this attempt was the one to record it. */
  recorded: JobState | undefined;

  constructor(
    private readonly lease: Lease,
    private readonly attempt: number,
    private readonly parts: JobParts,
  ) {}

  async settle(outcome: Outcome): Promise<Ending> {
    const { jobId } = this.lease;
    if (outcome.kind === 'completed') return this.end('completed', { result: outcome.result });
    if (outcome.kind === 'failed') return this.failed(outcome.error);
    const { cause } = outcome;
    switch (cause.why) {
      case 'cancelled':
        return this.end('cancelled', { failure: error('PB_JOB_CANCELLED', { reason: cause.reason }, { jobId }) });
      case 'deadline':
        return this.end('failed', { failure: error('PB_JOB_TIMEOUT', { timeoutMs: cause.timeoutMs }, { jobId }) });
      case 'expired':
        return this.end('expired', { failure: error('PB_JOB_EXPIRED', {}, { jobId }) });
      case 'shutdown':
        await this.move('queued', { reason: 'the orchestrator is shutting down' });
        return 'put back';
      case 'lease lost':
        return 'over';
    }
  }

  private async failed(failure: PatchbayError): Promise<Ending> {
    const { jobId } = this.lease;
    // a gang that was gone before the job came says nothing about the job
    const innocent = failure.code === 'PB_GANG_LOST' && failure.cause === NOT_BY_THE_RANKS;
    const code = innocent ? 'PB_MODEL_NOT_READY' : failure.code;
    const failures = failure.retryable ? await this.parts.records.countFailure(jobId, code) : 1;
    const next = afterFailure(failure, code, failures);
    if (typeof next !== 'number') return this.end('failed', { failure: next });
    await this.move('queued', { reason: `${failure.code}: ${failure.message}` });
    return { pauseMs: next };
  }

  private async end(
    state: 'completed' | 'failed' | 'cancelled' | 'expired',
    { result, failure }: { result?: CompleteResult; failure?: PatchbayError },
  ): Promise<Ending> {
    const told = {
      ...(result !== undefined && { result: result.text, artifacts: result.artifacts }),
      ...(failure && { reason: failure.message, error: failure.toJSON() }),
    };
    const answer = await this.move(state, told);
    if (answer === 'ok') {
      this.recorded = state;
      this.parts.metrics.ended(this.lease.model, state);
      if (result !== undefined) this.parts.metrics.timed(this.lease.model, result.timings);
    } else if (answer !== state)
      this.parts.log.warn({ ...this.lease, attempt: this.attempt, state, answer }, 'the end of a job was refused');
    return 'over';
  }

  private async move(state: JobState, step: TransitionStep): Promise<string> {
    const { answer, released } = await this.parts.records.transition(this.lease.jobId, state, this.attempt, step);
    if (released !== undefined) this.parts.release(released);
    return answer;
  }
}

/** The part of a job's life that holds a replica. Never throws. */
class Attempt {
  private running = false;
  private resume: Readonly<Record<string, Checkpoint>> = {};
  private deadline: NodeJS.Timeout | undefined;
  private expiry: NodeJS.Timeout | undefined;

  constructor(
    private readonly lease: Lease,
    private readonly begun: BegunJob,
    private readonly stop: StopSwitch,
    private readonly parts: JobParts,
    private readonly clock: JobClock,
    private readonly trace: AttemptTrace | undefined,
  ) {}

  async run(): Promise<Outcome> {
    try {
      const { cancelRequested, document: text } = this.begun;
      if (cancelRequested !== undefined) this.stop.stop({ why: 'cancelled', reason: cancelRequested });
      checkLostConsumers(this.begun.lostConsumers);
      const timeoutMs = timeoutMsOf(JSON.parse(text));
      this.expireLater();
      const patience = Math.max(this.parts.limits.placeTimeoutMs, timeoutMs);
      this.resume = await this.parts.events.checkpoints(this.lease.jobId, this.begun.attempt);
      const claim = await this.parts.claim(this.lease.model, this.stop.signal, patience);
      return { kind: 'completed', result: await this.runOn(claim, timeoutMs) };
    } catch (cause) {
      if (cause instanceof Stopped) return { kind: 'stopped', cause: cause.cause };
      return { kind: 'failed', error: toPatchbayError(cause, this.lease.jobId) };
    } finally {
      clearTimeout(this.deadline);
      clearTimeout(this.expiry);
    }
  }

  private expireLater(): void {
    const { expiresAt } = this.begun;
    if (expiresAt === undefined) return;
    this.expiry = setTimeout(() => this.stop.stop({ why: 'expired' }), Math.max(0, expiresAt - Date.now()));
  }

  private async runOn(claim: Claim, timeoutMs: number): Promise<CompleteResult> {
    const sent = this.clock.now();
    this.trace?.placed(sent);
    const run = this.start(claim, timeoutMs, sent);
    // the replica is free when the gang is done with the job, which may be after the job's recorded end
    run.done.then(
      () => claim.release(false),
      (cause: unknown) => claim.release(SUSPICIOUS.includes(toPatchbayError(cause).code)),
    );
    const { json, route } = await this.outcomeOf(run);
    this.markRunning(timeoutMs);
    const { jobId, model } = this.lease;
    const { attempt } = this.begun;
    const moments = { created: this.begun.createdAt, taken: this.clock.taken, sent, done: this.clock.now() };
    return completeResult(json, { jobId, attempt, model, route, moments });
  }

  private start(claim: Claim, timeoutMs: number, sent: number): GangRun {
    const { jobId } = this.lease;
    const { attempt } = this.begun;
    const deadlineUnixMs = Math.ceil(sent) + timeoutMs + DEADLINE_SLACK_MS;
    const job = {
      jobId,
      attempt,
      document: this.begun.document,
      deadlineUnixMs,
      artifactUrl: this.parts.artifactUrl(),
      ticket: this.parts.tickets.issue(jobId, attempt, deadlineUnixMs + TICKET_SLACK_MS),
      resume: this.resume,
      traceparent: this.trace?.traceparent,
    };
    return claim.gang.execute(job, {
      onRunning: () => this.markRunning(timeoutMs),
      onEvent: (json, seq) => this.parts.events.append(jobId, attempt, json, seq),
      onSpans: (json) => this.trace?.gang(json, sent, this.clock.now()),
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
    clearTimeout(this.expiry);
    this.deadline = setTimeout(() => this.stop.stop({ why: 'deadline', timeoutMs }), timeoutMs);
    const { jobId } = this.lease;
    const { attempt } = this.begun;
    this.parts.records.transition(jobId, 'running', attempt).then(
      ({ answer }) => {
        if (answer === 'stale' || answer === 'missing') this.stop.stop({ why: 'lease lost' });
      },
      (cause: unknown) => this.parts.log.error({ jobId, err: cause }, 'cannot record that a job runs'),
    );
  }
}
