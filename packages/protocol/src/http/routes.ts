/**
 * Every route of the HTTP service: what it takes and what it answers. The orchestrator serves from this table, and OpenAPI and
 * docs/http.md are printed from it. Not here: pages, bull-board, and what a route does.
 * @module
 */
import { z } from 'zod';
import { jobStatus } from '../job-record.js';
import { deployment, deploymentSpec } from '../model.js';
import { jobResult } from '../result.js';
import * as answers from './answers.js';
import * as requests from './requests.js';

export const MEDIA = {
  json: 'application/json',
  lines: 'application/x-ndjson',
  events: 'text/event-stream',
  bytes: 'application/octet-stream',
  text: 'text/plain',
} as const;

export interface Route {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE' | 'HEAD';
  /** With `:name` for what `params` has. */
  readonly path: string;
  readonly summary: string;
  /** Needs no token. */
  readonly open?: true;
  /** What an API key may ask: about anything here, or only about jobs that are its own. Without: nothing. */
  readonly submitters?: 'any' | 'own';
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly headers?: z.ZodObject;
  /** Of JSON; a file is told by `takes`. */
  readonly body?: z.ZodType;
  readonly takes?: (typeof MEDIA)['bytes'];
  /** Of success; everything else is an error in the one shape. */
  readonly status: 200 | 201 | 204;
  /** Of the whole answer, or of one line or event of a stream; nothing for files and texts. */
  readonly answer?: z.ZodType;
  readonly media?: (typeof MEDIA)[keyof typeof MEDIA];
}

const job = { params: requests.byJob, submitters: 'own', status: 200 } as const;
/** Who knows the digest of a content knows the content, or was given it. */
const artifact = { path: '/api/artifacts/:sha256', params: requests.byDigest, submitters: 'any' } as const;

export const ROUTES = {
  health: {
    method: 'GET',
    path: '/healthz',
    summary: 'The state of each part, and the sandbox level',
    open: true,
    status: 200,
    answer: answers.health,
  },
  metrics: { method: 'GET', path: '/metrics', summary: 'Prometheus', open: true, status: 200, media: MEDIA.text },
  session: {
    method: 'GET',
    path: '/api/session',
    summary: 'Who one is',
    open: true,
    status: 200,
    answer: answers.session,
  },
  signIn: {
    method: 'POST',
    path: '/api/session',
    summary: 'Signs a browser in: the token becomes a cookie',
    open: true,
    body: requests.signInBody,
    status: 200,
    answer: answers.session,
  },
  signOut: {
    method: 'DELETE',
    path: '/api/session',
    summary: 'Signs a browser out',
    open: true,
    status: 200,
    answer: answers.session,
  },
  openApi: {
    method: 'GET',
    path: '/api/openapi.json',
    summary: 'This description',
    submitters: 'any',
    status: 200,
    answer: z.record(z.string(), z.unknown()),
  },
  submit: {
    method: 'POST',
    path: '/api/jobs',
    summary: 'Submits a document; the same id and document again is the first job',
    submitters: 'any',
    query: requests.submitQuery,
    headers: requests.traceHeaders,
    body: requests.checkedDocument,
    status: 201,
    answer: answers.submitted,
  },
  jobs: {
    method: 'GET',
    path: '/api/jobs',
    summary: 'Jobs, newest first',
    submitters: 'any',
    query: requests.listQuery,
    status: 200,
    answer: answers.jobPage,
  },
  job: {
    ...job,
    method: 'GET',
    path: '/api/jobs/:id',
    summary: 'A job: status, transitions, document',
    answer: answers.jobWithDocument,
  },
  result: {
    ...job,
    method: 'GET',
    path: '/api/jobs/:id/result',
    summary: 'The result of a job that has ended; small files inline as base64',
    answer: jobResult,
  },
  events: {
    ...job,
    method: 'GET',
    path: '/api/jobs/:id/events',
    summary: "A job's event log, to its end",
    headers: requests.eventsHeaders,
    answer: answers.loggedEvent,
    media: MEDIA.events,
  },
  cancel: {
    ...job,
    method: 'POST',
    path: '/api/jobs/:id/cancel',
    summary: 'Asks a job to stop; the status after that',
    body: requests.cancelBody,
    answer: jobStatus,
  },
  retry: {
    ...job,
    method: 'POST',
    path: '/api/jobs/:id/retry',
    summary: 'The same document as a new job, with the label `retryOf`',
    status: 201,
    answer: answers.submitted,
  },
  remove: {
    ...job,
    method: 'DELETE',
    path: '/api/jobs/:id',
    summary: 'Forgets a job that has ended; its artifacts go with their time',
    status: 204,
  },
  place: {
    ...job,
    method: 'GET',
    path: '/api/jobs/:id/place',
    summary: 'How many jobs are before this one, and when it can expect to start',
    answer: answers.place,
  },
  tensors: {
    ...job,
    method: 'GET',
    path: '/api/jobs/:id/tensors',
    summary: 'Where the tensors of a result are: read values by `Range` of the artifact',
    answer: answers.tensorPlaces,
  },
  queues: {
    method: 'GET',
    path: '/api/queues',
    summary: 'Per deployment what waits and runs, and per minute what ended and how long it took',
    submitters: 'any',
    query: requests.overviewQuery,
    status: 200,
    answer: answers.queueOverviews,
  },
  drain: {
    method: 'POST',
    path: '/api/queues/:name/drain',
    summary: "Stops or resumes giving out a deployment's jobs; running ones go on",
    params: requests.byName,
    body: requests.drainBody,
    status: 200,
    answer: answers.queueCounts,
  },
  drainOrchestrator: {
    method: 'POST',
    path: '/api/drain',
    summary: 'This orchestrator takes no more jobs, ends those that run, and leaves',
    status: 200,
    answer: answers.drainState,
  },
  changes: {
    method: 'GET',
    path: '/api/changes',
    summary: 'Steps of all jobs as they happen: `ready`, `jobs`, `deployments`, `reset`',
    headers: requests.changesHeaders,
    status: 200,
    answer: answers.changes,
    media: MEDIA.events,
  },
  cluster: {
    method: 'GET',
    path: '/api/cluster',
    summary: 'Nodes with what they have and what is used of it, and versions',
    status: 200,
    answer: answers.cluster,
  },
  validate: {
    method: 'POST',
    path: '/api/validate',
    summary: 'All checks of a document that need no device',
    submitters: 'any',
    body: requests.checkedDocument,
    status: 200,
    answer: answers.validated,
  },
  models: {
    method: 'GET',
    path: '/api/models',
    summary: 'Deployments with the descriptions of their models',
    submitters: 'any',
    status: 200,
    answer: answers.deployments,
  },
  model: {
    method: 'GET',
    path: '/api/models/:name',
    summary: 'One deployment',
    submitters: 'any',
    params: requests.byName,
    status: 200,
    answer: deployment,
  },
  deploy: {
    method: 'POST',
    path: '/api/models',
    summary: 'Puts a model on the cluster: lines of progress, then `ready` or `failed`',
    body: deploymentSpec,
    status: 200,
    answer: answers.deployLine,
    media: MEDIA.lines,
  },
  undeploy: {
    method: 'DELETE',
    path: '/api/models/:name',
    summary: 'Takes a deployment off the cluster; its jobs end',
    params: requests.byName,
    status: 200,
    answer: answers.undeployed,
  },
  putArtifact: {
    ...artifact,
    method: 'PUT',
    summary: 'Stores a file under its digest, which is verified',
    takes: MEDIA.bytes,
    status: 201,
    answer: answers.stored,
  },
  headArtifact: { ...artifact, method: 'HEAD', summary: 'How large a file is', status: 200 },
  getArtifact: { ...artifact, method: 'GET', summary: 'A file, or a `Range` of it', status: 200, media: MEDIA.bytes },
} as const satisfies Record<string, Route>;
export type RouteName = keyof typeof ROUTES;
/** Routes that answer JSON, or lines or events of it. */
export type AnsweredRoute = {
  [Name in RouteName]: (typeof ROUTES)[Name] extends { readonly answer: z.ZodType } ? Name : never;
}[RouteName];
/** What a route answers when all is well: the whole of it, or a line or event of a stream. */
export type Answer<Name extends AnsweredRoute> = z.output<(typeof ROUTES)[Name]['answer']>;
