/** A collector for tests: takes OTLP over HTTP as JSON and keeps the spans. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number | string; readonly doubleValue?: number };
}

export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code?: number; readonly message?: string };
}

interface Export {
  readonly resourceSpans: readonly { readonly scopeSpans: readonly { readonly spans: readonly ReceivedSpan[] }[] }[];
}

export interface Receiver {
  /** What `OTEL_EXPORTER_OTLP_ENDPOINT` would say. */
  readonly url: string;
  readonly spans: ReceivedSpan[];
  close(): void;
}

export async function startReceiver(): Promise<Receiver> {
  const spans: ReceivedSpan[] = [];
  const server = createServer((request, response) => {
    void json(request).then((body) => {
      for (const { scopeSpans } of (body as Export).resourceSpans)
        spans.push(...scopeSpans.flatMap((one) => one.spans));
      response.writeHead(request.url === '/v1/traces' ? 200 : 404, { 'content-type': 'application/json' }).end('{}');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = (): void => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, spans, close };
}

export const attributeOf = (span: ReceivedSpan, key: string): string | number | undefined => {
  const value = span.attributes.find((one) => one.key === key)?.value;
  return value?.stringValue ?? value?.intValue ?? value?.doubleValue;
};

/** `job > attempt > gang > rank 0` and so on, each path as often as it is there. */
export function pathsOf(spans: readonly ReceivedSpan[]): string[] {
  const path = (span: ReceivedSpan): string => {
    const parent = spans.find(({ spanId }) => spanId === span.parentSpanId);
    return parent === undefined ? span.name : `${path(parent)} > ${span.name}`;
  };
  return spans.map(path).sort();
}

/** Spans that begin before the one around them, or end after it. */
export function outsideOf(spans: readonly ReceivedSpan[], except: readonly string[] = []): string[] {
  return spans.flatMap((span) => {
    const parent = spans.find(({ spanId }) => spanId === span.parentSpanId);
    if (parent === undefined || except.includes(parent.name)) return [];
    const begins = BigInt(span.startTimeUnixNano) >= BigInt(parent.startTimeUnixNano);
    const ends = BigInt(span.endTimeUnixNano) <= BigInt(parent.endTimeUnixNano);
    return begins && ends ? [] : [`${span.name} in ${parent.name}`];
  });
}
