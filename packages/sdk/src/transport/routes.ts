/** Requests by the names of the HTTP contract's routes; answers are checked by its schemas. Not here: artifacts, which are bytes. @module */
import { error, formatPath } from '@patchbay/protocol';
import { ROUTES, type Answer, type AnsweredRoute, type Route } from '@patchbay/protocol/http';
import type { HttpClient, HttpRequest } from './http.js';

/** What is filled into a route. */
export interface RouteRequest {
  /** For `:name` in the path. */
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: URLSearchParams;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
}

/** @throws the error that the orchestrator names; `PB_ORCHESTRATOR_UNAVAILABLE` for an answer of another version */
export async function callRoute<Name extends AnsweredRoute>(
  http: HttpClient,
  name: Name,
  request: RouteRequest = {},
): Promise<Answer<Name>> {
  const response = await openRoute(http, name, request);
  return readAnswer(name, await http.read(request.signal, () => response.json()), response.url);
}

/** The response to a route whose answer is a stream of lines, each for `readAnswer`. */
export function openRoute(http: HttpClient, name: AnsweredRoute, request: RouteRequest = {}): Promise<Response> {
  return http.request(pathTo(ROUTES[name], request), toHttp(ROUTES[name], request));
}

/** @param url - that has answered, for the error */
export function readAnswer<Name extends AnsweredRoute>(name: Name, value: unknown, url: string): Answer<Name> {
  const parsed = ROUTES[name].answer.safeParse(value);
  if (parsed.success) return parsed.data as Answer<Name>;
  const [issue] = parsed.error.issues;
  const at = formatPath(issue!.path);
  const reason = `it answered what this version does not know: ${at === '' ? '' : `${at}: `}${issue!.message}`;
  throw error('PB_ORCHESTRATOR_UNAVAILABLE', { url, reason });
}

function pathTo({ path }: Route, { params = {}, query }: RouteRequest): string {
  const filled = path.replaceAll(/:(\w+)/g, (_, key: string) => encodeURIComponent(params[key]!));
  return query === undefined ? filled : `${filled}?${query.toString()}`;
}

function toHttp({ method }: Route, { body, signal }: RouteRequest): HttpRequest {
  const json = { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
  return { method, signal, ...(body !== undefined && json) };
}
