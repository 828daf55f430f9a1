/** The HTTP server: routes, sizes, and every error in the one JSON shape. Not here: what a route does. @module */
import { MAX_DOCUMENT_BYTES, error, isPatchbayError, toPatchbayError, type PatchbayError } from '@patchbay/protocol';
import { fastify, type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from '../log.js';
import type { Auth } from './auth.js';
import { boardRoutes } from './board.js';
import { pageRoutes } from './page.js';
import { artifactRoutes, type ArtifactRouteParts } from './routes/artifacts.js';
import { clusterRoutes, type ClusterRouteParts } from './routes/cluster.js';
import { descriptionRoutes } from './routes/description.js';
import { healthRoutes, type HealthRouteParts } from './routes/health.js';
import { jobActionRoutes, type JobActionParts } from './routes/job-actions.js';
import { jobRoutes, type JobRouteParts } from './routes/jobs.js';
import { modelRoutes, type ModelRouteParts } from './routes/models.js';
import { queueRoutes, type QueueRouteParts } from './routes/queues.js';
import { sessionRoutes } from './routes/session.js';
import { validateRoutes, type ValidateRouteParts } from './routes/validate.js';

/** JSON may be written with spaces; what counts is checked on the parsed document. */
const BODY_BYTES = 4 * MAX_DOCUMENT_BYTES;

export interface ServerParts
  extends
    ArtifactRouteParts,
    ClusterRouteParts,
    HealthRouteParts,
    JobActionParts,
    JobRouteParts,
    ModelRouteParts,
    QueueRouteParts,
    ValidateRouteParts {
  readonly auth: Auth;
  /** @throws `PB_REDIS_UNAVAILABLE` */
  readonly requireRedis: () => void;
  readonly log: Logger;
}

export function createServer(parts: ServerParts): FastifyInstance {
  const refuse = (cause: FastifyError, request: FastifyRequest, reply: FastifyReply): void => {
    const told = typed(cause, request);
    if (told.status >= 500 && !isPatchbayError(cause))
      parts.log.error({ err: cause, url: request.url }, 'request failed');
    void reply.code(told.status).type('application/json').send(told.toJSON());
  };
  const app = fastify({
    logger: false,
    bodyLimit: BODY_BYTES,
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    // a streamed upload or download may take its time
    requestTimeout: 0,
    routerOptions: { maxParamLength: 256 },
    // an address that cannot be read, or is too long, never reaches a route
    frameworkErrors: refuse,
  });
  app.setErrorHandler(refuse);
  app.setNotFoundHandler((request, reply) => {
    const told = error('PB_NOT_FOUND', { url: request.url.split('?')[0]! });
    return reply.code(told.status).send(told.toJSON());
  });
  void app.register(healthRoutes(parts));
  void app.register(sessionRoutes(parts));
  void app.register(pageRoutes(parts));
  void app.register(boardRoutes(parts));
  void app.register(async (api) => {
    api.addHook('onRequest', parts.auth.userOrTicket);
    await api.register(artifactRoutes(parts));
  });
  void app.register(async (api) => {
    api.addHook('onRequest', parts.auth.user);
    api.addHook('onRequest', async () => parts.requireRedis());
    await api.register(descriptionRoutes());
    await api.register(jobRoutes(parts));
    await api.register(jobActionRoutes(parts));
    await api.register(queueRoutes(parts));
    await api.register(clusterRoutes(parts));
    await api.register(modelRoutes(parts));
    await api.register(validateRoutes(parts));
  });
  return app;
}

/** Fastify's own refusals as ours. */
function typed(cause: FastifyError, request: FastifyRequest): PatchbayError {
  if (isPatchbayError(cause)) return cause;
  if (cause.code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    const bytes = request.headers['content-length'] ?? `more than ${BODY_BYTES}`;
    return error('PB_DOCUMENT_TOO_LARGE', { bytes, limit: MAX_DOCUMENT_BYTES });
  }
  if (cause.statusCode !== undefined && cause.statusCode < 500)
    return error('PB_REQUEST_INVALID', { reason: cause.message });
  return toPatchbayError(cause);
}
