/** /healthz and /metrics: open, and free of secrets. @module */
import { ROUTES } from '@patchbay/protocol/http';
import type { FastifyPluginAsync } from 'fastify';
import type { Health } from '../../health.js';
import type { Metrics } from '../../metrics.js';
import { serve } from '../serve.js';

export interface HealthRouteParts {
  readonly health: Health;
  readonly metrics: Metrics;
}

export function healthRoutes({ health, metrics }: HealthRouteParts): FastifyPluginAsync {
  return async (app) => {
    serve(app, ROUTES.health, () => health.report());

    serve(app, ROUTES.metrics, async ({ reply }) => {
      const text = await metrics.text();
      return reply.type(metrics.contentType).send(text);
    });
  };
}
