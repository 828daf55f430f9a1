/** /api/queues, /api/drain and /api/changes: the overview of all queues, draining one or this orchestrator, and every job's steps as they happen. @module */
import { Readable } from 'node:stream';
import { MEDIA, ROUTES, type Change } from '@patchbay/protocol/http';
import type { FastifyPluginAsync } from 'fastify';
import type { Drain } from '../../drain.js';
import type { Queues } from '../../jobs/queues.js';
import type { ChangeFeed } from '../../live/change-feed.js';
import type { QueueView } from '../../live/queue-view.js';
import type { Controller } from '../../placement/controller.js';
import { serve } from '../serve.js';

export interface QueueRouteParts {
  readonly queues: Queues;
  readonly queueView: QueueView;
  readonly changes: ChangeFeed;
  readonly controller: Controller;
  readonly drain: Drain;
}

const BATCH_MS = 200;
const ALIVE_MS = 15_000;

export function queueRoutes({ queues, queueView, changes, controller, drain }: QueueRouteParts): FastifyPluginAsync {
  return async (app) => {
    serve(app, ROUTES.queues, async ({ query }) => ({ queues: await queueView.overview(query.minutes) }));

    serve(app, ROUTES.drain, async ({ params: { name }, body }) => {
      controller.get(name);
      await queues.drainInto(name, body.draining);
      return queues.counts(name);
    });

    serve(app, ROUTES.drainOrchestrator, async () => drain.begin());

    serve(app, ROUTES.changes, async ({ headers, request, reply }) => {
      const stream = new Readable({ read: () => undefined });
      const stop = await tell(stream, changes, controller, headers['last-event-id']);
      request.raw.once('close', stop);
      void reply.header('cache-control', 'no-cache').header('x-accel-buffering', 'no').type(MEDIA.events);
      return reply.send(stream);
    });
  };
}

const entry = (event: string, data: unknown, id?: string): string =>
  `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

/** What was missed, then what happens, a few times a second at most. */
async function tell(
  stream: Readable,
  changes: ChangeFeed,
  controller: Controller,
  cursor: string | undefined,
): Promise<() => void> {
  let waiting: Change[] = [];
  const silence = changes.listen((news) => void waiting.push(...news));
  const missed = cursor === undefined ? [] : await changes.since(cursor);
  const now = await changes.now();
  if (missed === undefined) stream.push(entry('reset', {}, now));
  else if (missed.length > 0) stream.push(entry('jobs', missed, missed.at(-1)!.cursor));
  else stream.push(entry('ready', {}, now));
  const told = new Set((missed ?? []).map((change) => change.cursor));
  let deployed = signature(controller);
  const batches = setInterval(() => {
    const news = waiting.filter((change) => !told.delete(change.cursor));
    waiting = [];
    if (news.length > 0) stream.push(entry('jobs', news, news.at(-1)!.cursor));
    const present = signature(controller);
    if (present !== deployed) stream.push(entry('deployments', {}));
    deployed = present;
  }, BATCH_MS);
  const alive = setInterval(() => stream.push(': alive\n\n'), ALIVE_MS);
  return () => {
    clearInterval(batches);
    clearInterval(alive);
    silence();
    stream.push(null);
  };
}

const signature = (controller: Controller): string =>
  controller
    .list()
    .map(({ spec, updatedAt, status }) => `${spec.name} ${updatedAt} ${status}`)
    .join('\n');
