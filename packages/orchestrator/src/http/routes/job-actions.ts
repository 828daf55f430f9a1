/** What people do with a job from a page or a shell: start it again, see its place and its tensors. @module */
import { randomUUID } from 'node:crypto';
import { parseJobDocument } from '@patchbay/protocol';
import type { FastifyPluginAsync } from 'fastify';
import { z } from 'zod';
import type { ArtifactStore } from '../../artifacts/store.js';
import type { JobReader } from '../../jobs/job-reader.js';
import type { Queues } from '../../jobs/queues.js';
import { listTensors } from '../../live/result-tensors.js';
import { submitDocument } from '../../jobs/submit.js';
import type { QueueView } from '../../live/queue-view.js';
import type { Redis } from '../../redis.js';
import type { Auth } from '../auth.js';
import { parseRequest } from '../parse-request.js';

export interface JobActionParts {
  readonly redis: Redis;
  readonly queues: Queues;
  readonly reader: JobReader;
  readonly queueView: QueueView;
  readonly artifacts: ArtifactStore;
  readonly auth: Auth;
}

const byId = z.object({ id: z.string().regex(/^[A-Za-z0-9_-]{1,128}$/, 'a job id has letters, digits, _ and - only') });
const OWN = { config: { submitters: 'own' } } as const;
/** Label of a job that is another one's document again. */
const RETRY_LABEL = 'retryOf';

export function jobActionRoutes(parts: JobActionParts): FastifyPluginAsync {
  const { redis, queues, reader, queueView, artifacts, auth } = parts;
  return async (app) => {
    app.post('/api/jobs/:id/retry', OWN, async (request, reply) => {
      const { id } = parseRequest(byId, request.params);
      await reader.status(id);
      const document = parseJobDocument(await reader.document(id));
      const labels = { ...document.labels, [RETRY_LABEL]: id };
      const again = { ...document, jobId: randomUUID(), labels };
      return reply.code(201).send(await submitDocument(redis, queues, again, { submitter: auth.submitterOf(request) }));
    });

    app.get('/api/jobs/:id/place', OWN, async (request) => {
      const { id } = parseRequest(byId, request.params);
      return queueView.place(await reader.status(id));
    });

    app.get('/api/jobs/:id/tensors', OWN, async (request) => {
      const { id } = parseRequest(byId, request.params);
      return { tensors: await listTensors(JSON.parse(await reader.result(id)), artifacts) };
    });
  };
}
