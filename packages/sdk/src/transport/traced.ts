/**
 * The span around a submission, for scripts that have set OpenTelemetry up. Where they have not, its API does nothing, and
 * no trace context goes with the job. @module
 */
import { SpanKind, SpanStatusCode, TraceFlags, isSpanContextValid, trace, type Span } from '@opentelemetry/api';
import { isPatchbayError, writeTraceparent } from '@patchbay/protocol';

function traceparentOf(span: Span): string | undefined {
  const context = span.spanContext();
  if (!isSpanContextValid(context)) return undefined;
  const { traceId, spanId, traceFlags } = context;
  return writeTraceparent({ traceId, spanId, sampled: (traceFlags & TraceFlags.SAMPLED) !== 0 });
}

/** @param work - gets what makes the orchestrator's spans children of this one */
export async function tracedSubmission(
  attributes: Readonly<Record<string, string>>,
  work: (traceparent: string | undefined) => Promise<void>,
): Promise<void> {
  const tracer = trace.getTracer('@patchbay/sdk');
  await tracer.startActiveSpan('submit', { kind: SpanKind.PRODUCER, attributes }, async (span) => {
    try {
      await work(traceparentOf(span));
    } catch (cause) {
      const message = isPatchbayError(cause) ? cause.code : String(cause);
      span.setStatus({ code: SpanStatusCode.ERROR, message });
      throw cause;
    } finally {
      span.end();
    }
  });
}
