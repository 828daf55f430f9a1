/** What the page asks the orchestrator. Every refusal becomes an `ApiError` with the service's own words. @module */
import type { Deployment, ErrorJson, JobDocument, JobResult, JobState, JobStatus } from '@patchbay/protocol';
import type {
  Answer,
  AnsweredRoute,
  Cluster,
  DeployLine,
  JobWithDocument,
  QueueOverview,
  Role,
  Session,
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

/** The service is of the version that has served this page, so answers have the types of the contract unchecked. */
const get = async <Name extends AnsweredRoute>(path: string, signal?: AbortSignal): Promise<Answer<Name>> =>
  (await ask('GET', path, undefined, signal)).json() as Promise<Answer<Name>>;
const send = async <Name extends AnsweredRoute>(method: string, path: string, body?: unknown): Promise<Answer<Name>> =>
  (await ask(method, path, body)).json() as Promise<Answer<Name>>;
const job = (id: string): string => `/api/jobs/${encodeURIComponent(id)}`;

export const api = {
  session: () => get<'session'>('/api/session'),
  signIn: (token: string) => send<'signIn'>('POST', '/api/session', { token }),
  signOut: () => send<'signOut'>('DELETE', '/api/session'),
  queues: (minutes: number, signal?: AbortSignal) => get<'queues'>(`/api/queues?minutes=${minutes}`, signal),
  drain: (model: string, draining: boolean) =>
    send<'drain'>('POST', `/api/queues/${encodeURIComponent(model)}/drain`, { draining }),
  jobs: (filter: JobFilter, limit: number, cursor: string | undefined, signal?: AbortSignal) => {
    const query = new URLSearchParams({ limit: String(limit), ...(cursor !== undefined && { cursor }) });
    for (const [name, value] of Object.entries(filter)) if (value) query.set(name, value as string);
    return get<'jobs'>(`/api/jobs?${query}`, signal);
  },
  job: (id: string, signal?: AbortSignal) => get<'job'>(job(id), signal),
  place: (id: string, signal?: AbortSignal) => get<'place'>(`${job(id)}/place`, signal),
  result: (id: string, signal?: AbortSignal) => get<'result'>(`${job(id)}/result`, signal),
  tensors: (id: string, signal?: AbortSignal) => get<'tensors'>(`${job(id)}/tensors`, signal),
  cancel: (id: string) => send<'cancel'>('POST', `${job(id)}/cancel`, { reason: 'asked for on the dashboard' }),
  retry: (id: string) => send<'retry'>('POST', `${job(id)}/retry`),
  remove: (id: string) => ask('DELETE', job(id)),
  models: (signal?: AbortSignal) => get<'models'>('/api/models', signal),
  model: (name: string, signal?: AbortSignal) => get<'model'>(`/api/models/${encodeURIComponent(name)}`, signal),
  undeploy: (name: string) => send<'undeploy'>('DELETE', `/api/models/${encodeURIComponent(name)}`),
  cluster: (signal?: AbortSignal) => get<'cluster'>('/api/cluster', signal),
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
