/**
 * The spans of one attempt of a job: queue, attempt, place, and what the gang told of itself. All are made when they are over.
 * The ids of the trace and of the job's span follow from the job id, so that attempts of several orchestrators meet in them.
 * @module
 */
import { createHash, randomBytes } from 'node:crypto';
import { readTraceparent, writeTraceparent } from '@patchbay/protocol';
import { z } from 'zod';
import type { SpanIds, Tracer } from './tracer.js';

interface GangSpan {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes?: Readonly<Record<string, string | number>> | undefined;
  readonly children?: readonly GangSpan[] | undefined;
}

/** As `spans_json` of worker.proto; times count from the start of the span around it. */
const gangSpan: z.ZodType<GangSpan> = z.lazy(() =>
  z.object({
    name: z.string(),
    startMs: z.number(),
    endMs: z.number(),
    attributes: z.record(z.string(), z.union([z.string(), z.number()])).optional(),
    children: z.array(gangSpan).optional(),
  }),
);

/** What is traced. */
export interface TracedAttempt {
  readonly jobId: string;
  readonly model: string;
  readonly attempt: number;
  readonly createdAt: number;
  readonly queuedAt: number;
  readonly traceparent: string | undefined;
}

interface Period {
  readonly startMs: number;
  readonly endMs: number;
}

/** The job's own span and the one around it. Undefined when whoever submitted is in a trace that is not recorded. */
function idsOf({ jobId, traceparent }: TracedAttempt): (SpanIds & { parentSpanId: string | undefined }) | undefined {
  const digest = createHash('sha256').update(jobId).digest('hex');
  const spanId = digest.slice(32, 48);
  const given = readTraceparent(traceparent);
  if (given === undefined) return { traceId: digest.slice(0, 32), spanId, parentSpanId: undefined };
  return given.sampled ? { traceId: given.traceId, spanId, parentSpanId: given.spanId } : undefined;
}

const newSpanId = (): string => randomBytes(8).toString('hex');
const within = (value: number, { startMs, endMs }: Period): number => Math.min(Math.max(value, startMs), endMs);

export class AttemptTrace {
  private readonly spanId = newSpanId();
  private readonly attributes: Readonly<Record<string, string | number>>;

  private constructor(
    private readonly tracer: Tracer,
    private readonly job: SpanIds & { readonly parentSpanId: string | undefined },
    private readonly traced: TracedAttempt,
    private readonly taken: number,
  ) {
    const { jobId, model, attempt } = traced;
    this.attributes = { 'patchbay.job.id': jobId, 'patchbay.model': model, 'patchbay.attempt': attempt };
    const startMs = Math.min(traced.queuedAt, taken);
    this.emit('queue', 'internal', { startMs, endMs: taken }, { parentSpanId: job.spanId });
  }

  /** Undefined when the job is not traced. @param taken - when the attempt began */
  static begin(tracer: Tracer | undefined, traced: TracedAttempt, taken: number): AttemptTrace | undefined {
    const job = tracer === undefined ? undefined : idsOf(traced);
    return job === undefined ? undefined : new AttemptTrace(tracer!, job, traced, taken);
  }

  /** For whoever works on the attempt. */
  get traceparent(): string {
    return writeTraceparent({ traceId: this.job.traceId, spanId: this.spanId, sampled: true });
  }

  /** A replica was found, and is told of the job now. */
  placed(sent: number): void {
    this.emit('place', 'internal', { startMs: this.taken, endMs: sent }, {});
  }

  /** Its clocks are its own, so what a gang tells is set in the middle of the time between the message to it and its answer. */
  gang(told: Buffer, sent: number, heard: number): void {
    const parsed = gangSpan.safeParse(parseJson(told));
    if (!parsed.success) return;
    const around = { startMs: sent, endMs: heard };
    const startMs = sent + Math.max(0, heard - sent - parsed.data.endMs) / 2;
    this.put({ ...parsed.data, startMs: 0, endMs: parsed.data.endMs }, startMs, around, this.spanId);
  }

  /** @param state - of the job, if this was its end */
  ended(now: number, state: string | undefined, failure: string | undefined): void {
    const endMs = Math.max(now, this.taken);
    this.emit('attempt', 'consumer', { startMs: this.taken, endMs }, { ...this.job, spanId: this.spanId, parentSpanId: this.job.spanId, failure }); // prettier-ignore
    if (state === undefined) return;
    const { createdAt, queuedAt } = this.traced;
    const startMs = Math.min(createdAt, queuedAt, this.taken);
    this.emit('job', 'internal', { startMs, endMs }, { ...this.job, attributes: { 'patchbay.state': state }, failure });
  }

  private put(
    { name, startMs, endMs, attributes = {}, children = [] }: GangSpan,
    origin: number,
    around: Period,
    parentSpanId: string,
  ): void {
    const own = { startMs: within(origin + startMs, around), endMs: within(origin + endMs, around) };
    const spanId = newSpanId();
    const named = Object.entries(attributes).map(([key, value]) => [`patchbay.${key}`, value] as const);
    this.emit(name, 'internal', own, { spanId, parentSpanId, attributes: Object.fromEntries(named) });
    for (const child of children) this.put(child, own.startMs, own, spanId);
  }

  /** Within the attempt unless another parent is named. */
  private emit(
    name: string,
    kind: 'internal' | 'consumer',
    { startMs, endMs }: Period,
    more: {
      readonly spanId?: string;
      readonly parentSpanId?: string | undefined;
      readonly attributes?: Readonly<Record<string, string | number>>;
      readonly failure?: string | undefined;
    },
  ): void {
    const { spanId = newSpanId(), attributes, failure } = more;
    const parentSpanId = 'parentSpanId' in more ? more.parentSpanId : this.spanId;
    const { traceId } = this.job;
    const all = { ...this.attributes, ...attributes };
    this.tracer.emit({ traceId, spanId, parentSpanId, name, kind, startMs, endMs, attributes: all, failure });
  }
}

function parseJson(text: Buffer): unknown {
  try {
    return JSON.parse(text.toString());
  } catch {
    return undefined;
  }
}
