/** /api/jobs: submit, list, look at, follow, cancel. @module */
import { Readable } from 'node:stream';
import { error } from '@patchbay/protocol';
import { MEDIA, ROUTES } from '@patchbay/protocol/http';
import type { FastifyPluginAsync } from 'fastify';
import { followEvents } from '../../jobs/event-log.js';
import type { JobReader } from '../../jobs/job-reader.js';
import type { JobRecords } from '../../jobs/job-record.js';
import type { Queues } from '../../jobs/queues.js';
import { submitDocument } from '../../jobs/submit.js';
import type { Scripts } from '../../scripts.js';
import type { Redis } from '../../redis.js';
import type { Auth } from '../auth.js';
import { serve } from '../serve.js';

export interface JobRouteParts {
  readonly scripts: Scripts;
  readonly openFollower: () => Redis;
  readonly queues: Queues;
  readonly records: JobRecords;
  readonly reader: JobReader;
  readonly auth: Auth;
}

export function jobRoutes({ scripts, openFollower, queues, records, reader, auth }: JobRouteParts): FastifyPluginAsync {
  return async (app) => {
    serve(app, ROUTES.submit, ({ query, headers: { traceparent }, body, request }) =>
      submitDocument(scripts, queues, body, { ...query, traceparent, submitter: auth.submitterOf(request) }),
    );

    serve(app, ROUTES.jobs, async ({ query: { limit, cursor, label = [], ...filter }, request }) => {
      const own = { submitter: auth.submitterOf(request), labels: [label].flat().map(readLabel) };
      return reader.list({ ...filter, ...own }, limit, cursor);
    });

    serve(app, ROUTES.job, async ({ params: { id } }) => {
      const [status, document] = await Promise.all([reader.status(id), reader.document(id)]);
      return { ...status, document };
    });

    serve(app, ROUTES.result, async ({ params, reply }) => reply.type(MEDIA.json).send(await reader.result(params.id)));

    serve(app, ROUTES.events, async ({ params: { id }, headers, request, reply }) => {
      const after = headers['last-event-id'];
      await reader.status(id);
      const gone = new AbortController();
      request.raw.once('close', () => gone.abort());
      reply.raw.once('close', () => gone.abort());
      void reply.header('cache-control', 'no-cache').header('x-accel-buffering', 'no').type(MEDIA.events);
      return reply.send(Readable.from(serverSentEvents(openFollower, id, after, gone.signal)));
    });

    serve(app, ROUTES.remove, async ({ params: { id } }) => {
      const state = await records.delete(id);
      if (state === 'missing') throw error('PB_JOB_NOT_FOUND', { jobId: id }, { jobId: id });
      if (state !== 'deleted') throw error('PB_JOB_RUNNING', { jobId: id, state }, { jobId: id });
    });

    serve(app, ROUTES.cancel, async ({ params: { id }, body }) => {
      const reason = body?.reason ?? 'asked for over HTTP';
      const { model } = await reader.status(id);
      const state = await records.cancel(id, reason);
      if (state === 'cancelled') await queues.remove(model, id);
      return reader.status(id);
    });
  };
}

function readLabel(text: string): { key: string; value: string } {
  const colon = text.indexOf(':');
  return { key: text.slice(0, colon), value: text.slice(colon + 1) };
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
