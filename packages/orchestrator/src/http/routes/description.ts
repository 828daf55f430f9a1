/** /api/openapi.json: what this service takes and answers. @module */
import { readFileSync } from 'node:fs';
import { ROUTES, openApi } from '@patchbay/protocol/http';
import type { FastifyPluginAsync } from 'fastify';
import { serve } from '../serve.js';

export function descriptionRoutes(): FastifyPluginAsync {
  const manifest = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  const { version } = JSON.parse(manifest) as { version: string };
  let printed: ReturnType<typeof openApi> | undefined;
  return async (app) => {
    serve(app, ROUTES.openApi, async () => (printed ??= openApi(version)));
  };
}
