/**
 * Where finished spans go: to an OpenTelemetry collector, by OTLP over HTTP, when one is configured by OpenTelemetry's own
 * variables. Nothing of OpenTelemetry is loaded without. Not here: which spans there are (job-trace.ts).
 * @module
 */
import type { SpanKind } from '@opentelemetry/api';
import type { ReadableSpan } from '@opentelemetry/sdk-trace';

/** Names a span in its trace, in hex. */
export interface SpanIds {
  readonly traceId: string;
  readonly spanId: string;
}

export interface FinishedSpan extends SpanIds {
  readonly parentSpanId: string | undefined;
  readonly name: string;
  readonly kind: 'internal' | 'consumer' | 'client';
  /** Unix milliseconds. */
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Readonly<Record<string, string | number>>;
  /** Why it did not end well. */
  readonly failure?: string | undefined;
}

export interface Tracer {
  emit(span: FinishedSpan): void;
  /** Sends what is left. */
  close(): Promise<void>;
}

const isOn = (env: NodeJS.ProcessEnv): boolean =>
  Boolean(env['OTEL_EXPORTER_OTLP_ENDPOINT'] ?? env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']) &&
  env['OTEL_SDK_DISABLED'] !== 'true';

type Time = [seconds: number, nanoseconds: number];

function timeOf(ms: number): Time {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}

/** Undefined when no collector is configured. */
export async function openTracer(env: NodeJS.ProcessEnv = process.env): Promise<Tracer | undefined> {
  if (!isOn(env)) return undefined;
  const [{ SpanKind, SpanStatusCode, TraceFlags }, { BatchSpanProcessor }, { OTLPTraceExporter }, resources] =
    await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/sdk-trace'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/resources'),
    ]);
  const given = resources.detectResources({ detectors: [resources.envDetector] });
  const service = env['OTEL_SERVICE_NAME'] ?? given.attributes['service.name'] ?? 'patchbay';
  const named = resources.resourceFromAttributes({ 'service.name': service });
  const common = {
    resource: resources.defaultResource().merge(given).merge(named),
    instrumentationScope: { name: '@patchbay/orchestrator' },
    links: [],
    events: [],
    ended: true,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
  const kinds: Record<FinishedSpan['kind'], SpanKind> = {
    internal: SpanKind.INTERNAL,
    consumer: SpanKind.CONSUMER,
    client: SpanKind.CLIENT,
  };
  const readable = (span: FinishedSpan): ReadableSpan => {
    const { traceId, spanId, parentSpanId, name, kind, startMs, endMs, attributes, failure } = span;
    const context = (id: string) => ({ traceId, spanId: id, traceFlags: TraceFlags.SAMPLED });
    return {
      ...common,
      name,
      kind: kinds[kind],
      spanContext: () => context(spanId),
      ...(parentSpanId !== undefined && { parentSpanContext: context(parentSpanId) }),
      startTime: timeOf(startMs),
      endTime: timeOf(endMs),
      duration: timeOf(endMs - startMs),
      attributes,
      status: failure === undefined ? { code: SpanStatusCode.UNSET } : { code: SpanStatusCode.ERROR, message: failure },
    };
  };
  // bounded: what a collector that is away does not take is dropped
  const scheduledDelayMillis = Number(env['OTEL_BSP_SCHEDULE_DELAY'] ?? 5_000);
  const processor = new BatchSpanProcessor({ exporter: new OTLPTraceExporter(), scheduledDelayMillis });
  return { emit: (span) => processor.onEnd(readable(span)), close: () => processor.shutdown() };
}
