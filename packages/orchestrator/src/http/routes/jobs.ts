/** /api/jobs: submit, list, look at, follow, cancel. @module */
import { Readable } from 'node:stream';
import { JOB_STATES, error, parseJobDocument } from '@patchbay/protocol';
import type { FastifyPluginAsync } from 'fastify';
import { z } from 'zod';
import { followEvents } from '../../jobs/event-log.js';
import type { JobReader } from '../../jobs/job-reader.js';
import type { JobRecords } from '../../jobs/job-record.js';
import type { Queues } from '../../jobs/queues.js';
import { submitDocument } from '../../jobs/submit.js';
import type { Redis } from '../../redis.js';
import type { Auth } from '../auth.js';
import { parseRequest } from '../parse-request.js';

export interface JobRouteParts {
  readonly redis: Redis;
  readonly openFollower: () => Redis;
  readonly queues: Queues;
  readonly records: JobRecords;
  readonly reader: JobReader;
  readonly auth: Auth;
}

const jobId = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/, 'a job id has letters, digits, _ and - only');
const byId = z.object({ id: jobId });
const submitQuery = z.object({ jobId: jobId.optional() });
const listQuery = z.object({
  state: z.enum(JOB_STATES).optional(),
  model: z.string().optional(),
  text: z.string().min(1).max(256).optional(),
  label: z
    .string()
    .regex(/^[^:]+:/, 'write a label as key:value')
    .transform((text) => ({ key: text.slice(0, text.indexOf(':')), value: text.slice(text.indexOf(':') + 1) }))
    .optional(),
  limit: z.coerce.number().int().min(1).max(500).default(50),
  cursor: z.string().optional(),
});
const cancelBody = z.object({ reason: z.string().max(1000).optional() }).nullish();
const cursor = z
  .string()
  .regex(/^\d+(-\d+)?$/, 'not a cursor of an event')
  .default('0');

const OWN = { config: { submitters: 'own' } } as const;
const ANY = { config: { submitters: 'any' } } as const;

export function jobRoutes({ redis, openFollower, queues, records, reader, auth }: JobRouteParts): FastifyPluginAsync {
  return async (app) => {
    app.post('/api/jobs', ANY, async (request, reply) => {
      const query = parseRequest(submitQuery, request.query);
      const submitted = await submitDocument(redis, queues, parseJobDocument(request.body), {
        ...query,
        submitter: auth.submitterOf(request),
      });
      return reply.code(201).send(submitted);
    });

    app.get('/api/jobs', ANY, async (request) => {
      const { limit, cursor: from, ...filter } = parseRequest(listQuery, request.query);
      return reader.list({ ...filter, submitter: auth.submitterOf(request) }, limit, from);
    });

    app.get('/api/jobs/:id', OWN, async (request) => {
      const { id } = parseRequest(byId, request.params);
      const [status, document] = await Promise.all([reader.status(id), reader.document(id)]);
      return { ...status, document };
    });

    app.get('/api/jobs/:id/result', OWN, async (request, reply) => {
      const { id } = parseRequest(byId, request.params);
      return reply.type('application/json').send(await reader.result(id));
    });

    app.get('/api/jobs/:id/events', OWN, async (request, reply) => {
      const { id } = parseRequest(byId, request.params);
      const after = parseRequest(cursor, request.headers['last-event-id']);
      await reader.status(id);
      const gone = new AbortController();
      request.raw.once('close', () => gone.abort());
      reply.raw.once('close', () => gone.abort());
      void reply.header('cache-control', 'no-cache').header('x-accel-buffering', 'no').type('text/event-stream');
      return reply.send(Readable.from(serverSentEvents(openFollower, id, after, gone.signal)));
    });

    app.delete('/api/jobs/:id', OWN, async (request, reply) => {
      const { id } = parseRequest(byId, request.params);
      const state = await records.delete(id);
      if (state === 'missing') throw error('PB_JOB_NOT_FOUND', { jobId: id }, { jobId: id });
      if (state !== 'deleted') throw error('PB_JOB_RUNNING', { jobId: id, state }, { jobId: id });
      return reply.code(204).send();
    });

    app.post('/api/jobs/:id/cancel', OWN, async (request) => {
      const { id } = parseRequest(byId, request.params);
      const reason = parseRequest(cancelBody, request.body)?.reason ?? 'asked for over HTTP';
      const { model } = await reader.status(id);
      const state = await records.cancel(id, reason);
      if (state === 'cancelled') await queues.remove(model, id);
      return reader.status(id);
    });
  };
}

async function* serverSentEvents(
  open: () => Redis,
  id: string,
  after: string,
  signal: AbortSignal,
): AsyncGenerator<string> {
  yield ': events\n\n';
  for await (const event of followEvents(open, id, after, signal)) {
    if (event === undefined) yield ': alive\n\n';
    else yield `id: ${event.cursor}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
  }
}
