/** /api/artifacts/:sha256: streamed in and out, one copy to disk, ranges. @module */
import type { Readable } from 'node:stream';
import { error } from '@patchbay/protocol';
import { MEDIA, ROUTES } from '@patchbay/protocol/http';
import type { FastifyPluginAsync, FastifyReply } from 'fastify';
import type { Promises } from '../../artifacts/promises.js';
import type { ArtifactInfo, ArtifactStore } from '../../artifacts/store.js';
import { parseRange } from '../range.js';
import { serve } from '../serve.js';

export interface ArtifactRouteParts {
  readonly artifacts: ArtifactStore;
  readonly artifactMaxBytes: number;
  readonly promises: Promises;
  /** @throws `PB_REDIS_UNAVAILABLE` */
  readonly requireRedis: () => void;
}

export function artifactRoutes(parts: ArtifactRouteParts): FastifyPluginAsync {
  const { artifacts, artifactMaxBytes, promises, requireRedis } = parts;
  return async (app) => {
    // whatever its type says, the body is passed on as it comes
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));

    serve(app, ROUTES.putArtifact, async ({ params: { sha256 }, request }) => {
      const announced = Number(request.headers['content-length'] ?? 0);
      if (announced > artifactMaxBytes) {
        throw error('PB_LIMIT_EXCEEDED', { what: 'artifact', actual: announced, limit: artifactMaxBytes });
      }
      return artifacts.put(sha256, (request.body as Readable | undefined) ?? request.raw);
    });

    // who asks this spares himself an upload: the file must last as if he had sent it
    serve(app, ROUTES.headArtifact, async ({ params, reply }) => {
      requireRedis();
      await promises.make(params.sha256);
      const info = await artifacts.head(params.sha256);
      return describe(reply, info).header('content-length', info.bytes).send();
    });

    serve(app, ROUTES.getArtifact, async ({ params, request, reply }) => {
      const info = await artifacts.head(params.sha256);
      const range = parseRange(request.headers.range, info.bytes);
      if (range === 'unsatisfiable') {
        const told = error('PB_REQUEST_INVALID', { reason: `the file has ${info.bytes} bytes` }, { path: 'Range' });
        void reply.code(416).header('content-range', `bytes */${info.bytes}`).type(MEDIA.json);
        return reply.send(told.toJSON());
      }
      describe(reply, info);
      if (range === undefined) return reply.header('content-length', info.bytes).send(await artifacts.get(info.sha256));
      const { start, end } = range;
      void reply
        .code(206)
        .header('content-range', `bytes ${start}-${end}/${info.bytes}`)
        .header('content-length', end - start + 1);
      return reply.send(await artifacts.get(info.sha256, range));
    });
  };
}

/** The content never changes, so it may be kept for ever. */
function describe(reply: FastifyReply, { sha256 }: ArtifactInfo): FastifyReply {
  return reply
    .type(MEDIA.bytes)
    .header('accept-ranges', 'bytes')
    .header('etag', `"${sha256}"`)
    .header('cache-control', 'private, max-age=31536000, immutable');
}
