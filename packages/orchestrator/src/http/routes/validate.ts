/** /api/validate: all checks of a document that need no device; the gang's own come last. @module */
import { ROUTES } from '@patchbay/protocol/http';
import type { FastifyPluginAsync } from 'fastify';
import type { Controller } from '../../placement/controller.js';
import { serve } from '../serve.js';

export interface ValidateRouteParts {
  readonly controller: Controller;
}

export function validateRoutes({ controller }: ValidateRouteParts): FastifyPluginAsync {
  return async (app) => {
    serve(app, ROUTES.validate, async ({ body: document }) => {
      const model = controller.get(document.model);
      return { warnings: await model.pool.any(model.record.status).validate(JSON.stringify(document)) };
    });
  };
}
