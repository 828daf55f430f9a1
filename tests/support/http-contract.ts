/** Holds an answer of the HTTP service against the table of routes: what is not described there is a failure. */
import assert from 'node:assert/strict';
import { errorJson } from '@patchbay/protocol';
import { MEDIA, ROUTES, type Route } from '@patchbay/protocol/http';

const patterns = Object.values<Route>(ROUTES).map((route) => ({
  route,
  pattern: new RegExp(`^${route.path.replaceAll(/:\w+/g, '[^/]+')}$`),
}));

/** The route that serves a request; undefined for pages. */
export function routeOf(method: string, url: string): Route | undefined {
  const path = new URL(url, 'http://service').pathname;
  return patterns.find(({ route, pattern }) => route.method === method && pattern.test(path))?.route;
}

/** Parsing drops what the schema does not know, so equality says that nothing is told beyond it. */
function holds(schema: NonNullable<Route['answer']>, value: unknown, what: string): void {
  const parsed = schema.safeParse(value);
  assert.ok(parsed.success, `${what}: ${parsed.error?.message}`);
  assert.deepEqual(parsed.data, value, what);
}

/** @param text - of the body, whole */
export function checkAnswer(method: string, url: string, status: number, type: string, text: string): void {
  const what = `${method} ${url} ${status}`;
  if (status >= 400) return holds(errorJson, JSON.parse(text), what);
  const route = routeOf(method, url);
  assert.ok(route, `${what}: no such route is described`);
  const { answer, media = MEDIA.json } = route;
  assert.ok(status === route.status || (status === 206 && media === MEDIA.bytes), what);
  if (answer === undefined) return;
  assert.ok(type.startsWith(media), `${what}: ${type} is not ${media}`);
  if (media === MEDIA.json) return holds(answer, JSON.parse(text), what);
  if (media === MEDIA.lines) return text.trim().split('\n').forEach((line) => holds(answer, JSON.parse(line), what)); // prettier-ignore
  for (const [, data] of text.matchAll(/^data: (.*)$/gm)) holds(answer, JSON.parse(data!), what);
}
