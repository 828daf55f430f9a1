/** Serves a route of the contract's table: what is asked is checked, what is answered has the table's type. @module */
import { jobDocument, parseJobDocument } from '@patchbay/protocol';
import type { Route } from '@patchbay/protocol/http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { parseRequest } from './parse-request.js';

type Read<R extends Route, K extends string> = R extends Record<K, infer S extends z.ZodType> ? z.output<S> : undefined;

export interface Asked<R extends Route> {
  readonly params: Read<R, 'params'>;
  readonly query: Read<R, 'query'>;
  readonly headers: Read<R, 'headers'>;
  readonly body: Read<R, 'body'>;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

/** JSON is only written here, so that what is shared may be answered with. */
type Fixed<T> = T extends object ? { readonly [K in keyof T]: Fixed<T[K]> } : T;

/** The whole answer; a route that streams, or has its answer as text already, sends it and returns the reply. */
type Answer<R extends Route> = R extends { answer: infer S extends z.ZodType } ? Fixed<z.output<S>> : void;

/** Documents have a parser of their own, which names the nearest key. */
const read = (schema: z.ZodType | undefined, value: unknown): unknown =>
  schema === undefined ? undefined : schema === jobDocument ? parseJobDocument(value) : parseRequest(schema, value);

export function serve<R extends Route>(
  app: FastifyInstance,
  route: R,
  answer: (asked: Asked<R>) => Promise<Answer<R> | FastifyReply>,
): void {
  const { method, path: url, params, query, headers, body, status, submitters } = route;
  app.route({
    method,
    url,
    config: submitters === undefined ? {} : { submitters },
    handler: async (request, reply) => {
      const asked = {
        params: read(params, request.params),
        query: read(query, request.query),
        headers: read(headers, request.headers),
        body: read(body, request.body),
        request,
        reply: reply.code(status),
      };
      return answer(asked as Asked<R>);
    },
  });
}
