/** /api/session: sign in and out of the dashboard, and who one is. @module */
import { error } from '@patchbay/protocol';
import type { FastifyPluginAsync } from 'fastify';
import { z } from 'zod';
import type { Auth } from '../auth.js';
import { parseRequest } from '../parse-request.js';

const signIn = z.object({ token: z.string().min(1).max(4096) });

export function sessionRoutes({ auth }: { readonly auth: Auth }): FastifyPluginAsync {
  return async (app) => {
    app.get('/api/session', async (request) => ({ required: auth.required, role: auth.roleOf(request) ?? null }));

    app.post('/api/session', async (request, reply) => {
      auth.ownOrigin(request);
      const role = auth.roleOfToken(parseRequest(signIn, request.body).token);
      if (role === undefined) throw error('PB_UNAUTHORIZED', {});
      return reply
        .header('set-cookie', auth.sessionCookie(role, request.protocol === 'https'))
        .send({ required: true, role });
    });

    app.delete('/api/session', async (request, reply) => {
      auth.ownOrigin(request);
      const cookie = auth.sessionCookie(undefined, request.protocol === 'https');
      return reply.header('set-cookie', cookie).send({ required: auth.required, role: null });
    });
  };
}
