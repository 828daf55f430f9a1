/** /healthz and /metrics: open, and free of secrets. @module */
import type { FastifyPluginAsync } from 'fastify';
import type { Health } from '../../health.js';
import type { Metrics } from '../../metrics.js';

export interface HealthRouteParts {
  readonly health: Health;
  readonly metrics: Metrics;
}

export function healthRoutes({ health, metrics }: HealthRouteParts): FastifyPluginAsync {
  return async (app) => {
    app.get('/healthz', async () => health.report());

    app.get('/metrics', async (_request, reply) => {
      const text = await metrics.text();
      return reply.type(metrics.contentType).send(text);
    });
  };
}
