/** /api/session: sign in and out of the dashboard, and who one is. @module */
import { error } from '@patchbay/protocol';
import { ROUTES } from '@patchbay/protocol/http';
import type { FastifyPluginAsync } from 'fastify';
import type { Auth } from '../auth.js';
import { serve } from '../serve.js';

export function sessionRoutes({ auth }: { readonly auth: Auth }): FastifyPluginAsync {
  return async (app) => {
    serve(app, ROUTES.session, async ({ request }) => ({
      required: auth.required,
      role: auth.roleOf(request) ?? null,
    }));

    serve(app, ROUTES.signIn, async ({ body, request, reply }) => {
      auth.ownOrigin(request);
      const role = auth.roleOfToken(body.token);
      if (role === undefined) throw error('PB_UNAUTHORIZED', {});
      void reply.header('set-cookie', auth.sessionCookie(role, request.protocol === 'https'));
      return { required: true, role };
    });

    serve(app, ROUTES.signOut, async ({ request, reply }) => {
      auth.ownOrigin(request);
      void reply.header('set-cookie', auth.sessionCookie(undefined, request.protocol === 'https'));
      return { required: auth.required, role: null };
    });
  };
}
