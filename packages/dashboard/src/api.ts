/** What the page asks the orchestrator. Every refusal becomes an `ApiError` with the service's own words. @module */
import type { Deployment, ErrorJson, JobDocument, JobResult, JobState, JobStatus } from '@patchbay/protocol';
import type {
  Cluster,
  DeployLine,
  JobPage,
  JobWithDocument,
  Place,
  QueueOverview,
  Role,
  Session,
  Submitted,
  TensorPlace,
} from '@patchbay/protocol/http';

export type { Cluster, Deployment, DeployLine, ErrorJson, JobDocument, JobResult, JobState, JobStatus };
export type { JobWithDocument, QueueOverview, Role, Session, TensorPlace };

export interface JobFilter {
  readonly state?: string;
  readonly model?: string;
  readonly label?: string;
  readonly text?: string;
}

export class ApiError extends Error {
  constructor(readonly detail: Pick<ErrorJson, 'code' | 'message' | 'hint' | 'path'>) {
    super(detail.message);
  }
}

async function refusal(response: Response): Promise<ApiError> {
  const told: unknown = await response.json().catch(() => undefined);
  if (typeof told === 'object' && told !== null && 'code' in told) return new ApiError(told as ErrorJson);
  return new ApiError({ code: 'PB_INTERNAL', message: `the service answered with status ${response.status}` });
}

async function ask(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const sent =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
  let response: Response;
  try {
    response = await fetch(path, { method, ...sent, ...(signal && { signal }), credentials: 'same-origin' });
  } catch (cause) {
    if (signal?.aborted === true) throw cause;
    const message = 'the orchestrator does not answer';
    throw new ApiError({ code: 'PB_ORCHESTRATOR_UNAVAILABLE', message, hint: 'Is the stack up? `patchbay doctor`' });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

const get = async <T>(path: string, signal?: AbortSignal): Promise<T> =>
  (await ask('GET', path, undefined, signal)).json() as Promise<T>;
const send = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
  const response = await ask(method, path, body);
  return (response.status === 204 ? undefined : await response.json()) as T;
};
const job = (id: string): string => `/api/jobs/${encodeURIComponent(id)}`;

export const api = {
  session: () => get<Session>('/api/session'),
  signIn: (token: string) => send<Session>('POST', '/api/session', { token }),
  signOut: () => send<Session>('DELETE', '/api/session'),
  queues: (minutes: number, signal?: AbortSignal) =>
    get<{ queues: QueueOverview[] }>(`/api/queues?minutes=${minutes}`, signal),
  drain: (model: string, draining: boolean) =>
    send('POST', `/api/queues/${encodeURIComponent(model)}/drain`, { draining }),
  jobs: (filter: JobFilter, limit: number, cursor: string | undefined, signal?: AbortSignal) => {
    const query = new URLSearchParams({ limit: String(limit), ...(cursor !== undefined && { cursor }) });
    for (const [name, value] of Object.entries(filter)) if (value) query.set(name, value as string);
    return get<JobPage>(`/api/jobs?${query}`, signal);
  },
  job: (id: string, signal?: AbortSignal) => get<JobWithDocument>(job(id), signal),
  place: (id: string, signal?: AbortSignal) => get<Place>(`${job(id)}/place`, signal),
  result: (id: string, signal?: AbortSignal) => get<JobResult>(`${job(id)}/result`, signal),
  tensors: (id: string, signal?: AbortSignal) => get<{ tensors: TensorPlace[] }>(`${job(id)}/tensors`, signal),
  cancel: (id: string) => send('POST', `${job(id)}/cancel`, { reason: 'asked for on the dashboard' }),
  retry: (id: string) => send<Submitted>('POST', `${job(id)}/retry`),
  remove: (id: string) => send('DELETE', job(id)),
  models: (signal?: AbortSignal) => get<{ models: Deployment[] }>('/api/models', signal),
  model: (name: string, signal?: AbortSignal) => get<Deployment>(`/api/models/${encodeURIComponent(name)}`, signal),
  undeploy: (name: string) => send('DELETE', `/api/models/${encodeURIComponent(name)}`),
  cluster: (signal?: AbortSignal) => get<Cluster>('/api/cluster', signal),
  /** Lines of progress, then `ready` or `failed`. */
  deploy: async (spec: unknown, onLine: (line: DeployLine) => void): Promise<void> => {
    const { body } = await ask('POST', '/api/models', spec);
    let rest = '';
    for await (const part of body!.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + part).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) onLine(JSON.parse(line) as DeployLine);
    }
  },
  /** Bytes of an artifact, `end` exclusive. */
  bytes: async (sha256: string, begin: number, end: number, signal?: AbortSignal): Promise<Uint8Array> => {
    const response = await fetch(`/api/artifacts/${sha256}`, {
      headers: { range: `bytes=${begin}-${end - 1}` },
      ...(signal && { signal }),
    });
    if (!response.ok) throw await refusal(response);
    return new Uint8Array(await response.arrayBuffer());
  },
};
