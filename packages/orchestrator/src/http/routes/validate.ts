/** /api/validate: all checks of a document that need no device; the gang's own come last. @module */
import { parseJobDocument } from '@patchbay/protocol';
import type { FastifyPluginAsync } from 'fastify';
import type { Controller } from '../../placement/controller.js';

export interface ValidateRouteParts {
  readonly controller: Controller;
}

export function validateRoutes({ controller }: ValidateRouteParts): FastifyPluginAsync {
  return async (app) => {
    app.post('/api/validate', { config: { submitters: 'any' } }, async (request) => {
      const document = parseJobDocument(request.body);
      const model = controller.get(document.model);
      return { warnings: await model.pool.any(model.record.status).validate(JSON.stringify(document)) };
    });
  };
}
