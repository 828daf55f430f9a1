/** /api/cluster: the nodes with what they have and what is used of it. Deployments and ranks: /api/models. @module */
import { ROUTES } from '@patchbay/protocol/http';
import type { FastifyPluginAsync } from 'fastify';
import type { Gateway } from '../../cluster-client/gateway.js';
import { serve } from '../serve.js';

export interface ClusterRouteParts {
  readonly gateway: Gateway;
}

export function clusterRoutes({ gateway }: ClusterRouteParts): FastifyPluginAsync {
  return async (app) => {
    serve(app, ROUTES.cluster, () => gateway.describe());
  };
}
