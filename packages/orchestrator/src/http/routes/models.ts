/** /api/models: what is deployed, deploy, undeploy. @module */
import { Readable } from 'node:stream';
import { deploymentSpec, toPatchbayError, type DeploymentSpec } from '@patchbay/protocol';
import type { FastifyPluginAsync } from 'fastify';
import { z } from 'zod';
import type { Controller } from '../../placement/controller.js';
import { parseRequest } from '../parse-request.js';

export interface ModelRouteParts {
  readonly controller: Controller;
}

const ANY = { config: { submitters: 'any' } } as const;
const byName = z.object({ name: z.string().min(1).max(128) });

export function modelRoutes({ controller }: ModelRouteParts): FastifyPluginAsync {
  return async (app) => {
    app.get('/api/models', ANY, async () => ({ models: controller.list() }));

    app.get(
      '/api/models/:name',
      ANY,
      async (request) => controller.get(parseRequest(byName, request.params).name).record,
    );

    app.post('/api/models', async (request, reply) => {
      const spec = parseRequest(deploymentSpec, request.body);
      return reply.type('application/x-ndjson').send(deployLines(controller, spec));
    });

    app.delete('/api/models/:name', async (request) => {
      const { name } = parseRequest(byName, request.params);
      return { existed: await controller.undeploy(name) };
    });
  };
}

/** Goes on when the listener leaves: what was asked for is wanted. */
function deployLines(controller: Controller, spec: DeploymentSpec): Readable {
  const lines = new Readable({ read: () => undefined });
  const line = (value: object): void => {
    if (!lines.destroyed) lines.push(`${JSON.stringify(value)}\n`);
  };
  controller
    .deploy(spec, (progress) => line({ type: 'progress', ...progress }))
    .then(
      (deployment) => line({ type: 'ready', deployment }),
      (cause: unknown) => line({ type: 'failed', error: toPatchbayError(cause) }),
    )
    .finally(() => lines.push(null));
  return lines;
}
