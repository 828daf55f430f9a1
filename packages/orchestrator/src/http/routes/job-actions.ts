/** What people do with a job from a page or a shell: start it again, see its place and its tensors. @module */
import { randomUUID } from 'node:crypto';
import { parseJobDocument } from '@patchbay/protocol';
import { ROUTES } from '@patchbay/protocol/http';
import type { FastifyPluginAsync } from 'fastify';
import type { ArtifactStore } from '../../artifacts/store.js';
import type { JobReader } from '../../jobs/job-reader.js';
import type { Queues } from '../../jobs/queues.js';
import { listTensors } from '../../live/result-tensors.js';
import { submitDocument } from '../../jobs/submit.js';
import type { QueueView } from '../../live/queue-view.js';
import type { Scripts } from '../../scripts.js';
import type { Auth } from '../auth.js';
import { serve } from '../serve.js';

export interface JobActionParts {
  readonly scripts: Scripts;
  readonly queues: Queues;
  readonly reader: JobReader;
  readonly queueView: QueueView;
  readonly artifacts: ArtifactStore;
  readonly auth: Auth;
}

/** Label of a job that is another one's document again. */
const RETRY_LABEL = 'retryOf';

export function jobActionRoutes(parts: JobActionParts): FastifyPluginAsync {
  const { scripts, queues, reader, queueView, artifacts, auth } = parts;
  return async (app) => {
    serve(app, ROUTES.retry, async ({ params: { id }, request }) => {
      await reader.status(id);
      const document = parseJobDocument(await reader.document(id));
      const labels = { ...document.labels, [RETRY_LABEL]: id };
      return submitDocument(
        scripts,
        queues,
        { ...document, jobId: randomUUID(), labels },
        { submitter: auth.submitterOf(request) },
      );
    });

    serve(app, ROUTES.place, async ({ params }) => queueView.place(await reader.status(params.id)));

    serve(app, ROUTES.tensors, async ({ params }) => ({
      tensors: await listTensors(JSON.parse(await reader.result(params.id)), artifacts),
    }));
  };
}
