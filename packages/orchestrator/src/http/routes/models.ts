/** /api/models: what is deployed, deploy, undeploy. @module */
import { Readable } from 'node:stream';
import { toPatchbayError, type DeploymentSpec } from '@patchbay/protocol';
import { MEDIA, ROUTES, type DeployLine } from '@patchbay/protocol/http';
import type { FastifyPluginAsync } from 'fastify';
import type { Controller } from '../../placement/controller.js';
import { serve } from '../serve.js';

export interface ModelRouteParts {
  readonly controller: Controller;
}

export function modelRoutes({ controller }: ModelRouteParts): FastifyPluginAsync {
  return async (app) => {
    serve(app, ROUTES.models, async () => ({ models: controller.list() }));

    serve(app, ROUTES.model, async ({ params }) => controller.get(params.name).record);

    serve(app, ROUTES.deploy, async ({ body, reply }) => reply.type(MEDIA.lines).send(deployLines(controller, body)));

    serve(app, ROUTES.undeploy, async ({ params }) => ({ existed: await controller.undeploy(params.name) }));
  };
}

/** Goes on when the listener leaves: what was asked for is wanted. */
function deployLines(controller: Controller, spec: DeploymentSpec): Readable {
  const lines = new Readable({ read: () => undefined });
  const line = (value: DeployLine): void => {
    if (!lines.destroyed) lines.push(`${JSON.stringify(value)}\n`);
  };
  controller
    .deploy(spec, (progress) => line({ type: 'progress', ...progress }))
    .then(
      (deployment) => line({ type: 'ready', deployment }),
      (cause: unknown) => line({ type: 'failed', error: toPatchbayError(cause).toJSON() }),
    )
    .finally(() => lines.push(null));
  return lines;
}
