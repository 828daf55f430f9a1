/** Requests to the orchestrator; every failure is a typed error. Not here: what is asked for. @module */
import { PatchbayError, error, isPatchbayError } from '@patchbay/protocol';
import { throwIfAborted } from './deadline.js';

export interface HttpTarget {
  readonly url: string;
  readonly token?: string | undefined;
}

export interface HttpRequest {
  readonly method?: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string | ReadableStream<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
}

export class HttpClient {
  /**
   * @param locate - throws `PB_STACK_NOT_RUNNING` when there is nothing to ask
   * @param explain - a better error for a failed connection, if there is one
   */
  constructor(
    private readonly locate: () => HttpTarget,
    private readonly explain: () => PatchbayError | undefined,
  ) {}

  /** The response as it is, also when it is an error. @throws `PB_ORCHESTRATOR_UNAVAILABLE`, `PB_ABORTED` */
  async send(path: string, request: HttpRequest = {}): Promise<Response> {
    const { url, token } = this.locate();
    throwIfAborted(request.signal);
    const { method = 'GET', body, signal } = request;
    const headers = { ...request.headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) };
    const streamed = typeof body === 'object' && !(body instanceof Uint8Array);
    try {
      return await fetch(new URL(path, url), {
        method,
        headers,
        ...(body !== undefined && { body: body as NonNullable<RequestInit['body']> }),
        ...(streamed && { duplex: 'half' as const }),
        ...(signal !== undefined && { signal }),
      });
    } catch (cause) {
      throw this.#failure(cause, signal);
    }
  }

  /** As `send`, but an error response is thrown. @throws the error that the orchestrator names */
  async request(path: string, request: HttpRequest = {}): Promise<Response> {
    const response = await this.send(path, request);
    if (response.ok) return response;
    throw await responseError(response);
  }

  async json(path: string, request: HttpRequest = {}): Promise<unknown> {
    const response = await this.request(path, request);
    return this.read(request.signal, () => response.json());
  }

  async bytes(path: string, request: HttpRequest = {}): Promise<Uint8Array> {
    const response = await this.request(path, request);
    return new Uint8Array(await this.read(request.signal, () => response.arrayBuffer()));
  }

  /** A connection that ends in the middle of a body is typed too. */
  async read<T>(signal: AbortSignal | undefined, body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (cause) {
      const ownDisk = cause instanceof Error && 'syscall' in cause && 'path' in cause;
      throw ownDisk ? cause : this.#failure(cause, signal);
    }
  }

  #failure(cause: unknown, signal: AbortSignal | undefined): PatchbayError {
    if (isPatchbayError(cause)) return cause;
    if (signal?.aborted === true) return error('PB_ABORTED', {}, { cause: signal.reason });
    const stopped = this.explain();
    if (stopped !== undefined) return stopped;
    const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    const reason = inner instanceof Error ? inner.message || inner.name : String(inner);
    return error('PB_ORCHESTRATOR_UNAVAILABLE', { url: this.locate().url, reason }, { cause });
  }
}

/** What the orchestrator, or something between, says about a failed request. */
async function responseError(response: Response): Promise<PatchbayError> {
  const text = await response.text().catch(() => '');
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null && 'code' in body) return PatchbayError.fromJson(body);
  } catch {
    // not JSON: told below
  }
  const { url, status } = response;
  if (status === 401 || status === 403) return error('PB_UNAUTHORIZED', {});
  if (status === 404) return error('PB_NOT_FOUND', { url });
  const reason = `it answered ${status} ${text.slice(0, 200)}`.trim();
  return error('PB_ORCHESTRATOR_UNAVAILABLE', { url, reason });
}
