/**
 * bull-board under /queues: the raw view of BullMQ, read only, since an entry removed there would leave its job's record
 * behind. Its page asks a font of another host, which the policy of this service blocks: the system's font is shown.
 * @module
 */
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import { error, type PatchbayError } from '@patchbay/protocol';
import type { FastifyPluginAsync, FastifyReply } from 'fastify';
import type { Queues } from '../jobs/queues.js';
import type { Controller } from '../placement/controller.js';
import type { Auth } from './auth.js';
import { SECURITY_HEADERS, signInByAddress } from './page.js';

export interface BoardParts {
  readonly auth: Auth;
  readonly queues: Queues;
  readonly controller: Controller;
}

const PATH = '/queues';
/** Its page sets styles of elements, and shows its own pictures. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'";

export function boardRoutes({ auth, queues, controller }: BoardParts): FastifyPluginAsync {
  return async (app) => {
    const server = new FastifyAdapter();
    const board = createBullBoard({ queues: [], serverAdapter: server });
    const present = (): BullMQAdapter[] =>
      controller.list().map(({ spec }) => new BullMQAdapter(queues.raw(spec.name), { readOnlyMode: true }));
    let shown = '';
    server.setBasePath(PATH);
    app.addHook('onRequest', async (request, reply) => {
      if (signInByAddress(auth, request, reply)) return reply;
      void reply.headers(SECURITY_HEADERS).header('content-security-policy', POLICY);
      const role = auth.roleOf(request);
      if (role === 'submitter') return refuse(reply, error('PB_OPERATOR_ONLY', { url: PATH }));
      if (role === undefined) {
        if (request.headers.accept?.includes('text/html') === true) return reply.redirect('/sign-in?next=/queues', 303);
        return refuse(reply, error('PB_UNAUTHORIZED', {}));
      }
      if (request.method !== 'GET') return refuse(reply, error('PB_READ_ONLY', {}));
      const names = controller
        .list()
        .map(({ spec }) => spec.name)
        .join('\n');
      if (names !== shown) board.replaceQueues(present());
      shown = names;
      return undefined;
    });
    await app.register(server.registerPlugin(), { prefix: PATH });
  };
}

/** Not thrown: bull-board's plugin has an error handler of its own, which hides what it does not know. */
const refuse = (reply: FastifyReply, cause: PatchbayError): FastifyReply =>
  reply.code(cause.status).send(cause.toJSON());
