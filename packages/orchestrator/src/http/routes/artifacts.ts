/** /api/artifacts/:sha256: streamed in and out, one copy to disk, ranges. @module */
import type { Readable } from 'node:stream';
import { error } from '@patchbay/protocol';
import type { FastifyPluginAsync, FastifyReply } from 'fastify';
import { z } from 'zod';
import type { ArtifactInfo, ArtifactStore } from '../../artifacts/store.js';
import { parseRequest } from '../parse-request.js';
import { parseRange } from '../range.js';

export interface ArtifactRouteParts {
  readonly artifacts: ArtifactStore;
  readonly artifactMaxBytes: number;
}

const PATH = '/api/artifacts/:sha256';
/** Who knows the digest of a content knows the content, or was given it. */
const ANY = { config: { submitters: 'any' } } as const;
const byDigest = z.object({
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 digest has 64 lower case hex digits'),
});

export function artifactRoutes({ artifacts, artifactMaxBytes }: ArtifactRouteParts): FastifyPluginAsync {
  return async (app) => {
    // whatever its type says, the body is passed on as it comes
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));

    app.put(PATH, ANY, async (request, reply) => {
      const { sha256 } = parseRequest(byDigest, request.params);
      const announced = Number(request.headers['content-length'] ?? 0);
      if (announced > artifactMaxBytes) {
        throw error('PB_LIMIT_EXCEEDED', { what: 'artifact', actual: announced, limit: artifactMaxBytes });
      }
      const stored = await artifacts.put(sha256, (request.body as Readable | undefined) ?? request.raw);
      return reply.code(201).send(stored);
    });

    app.head(PATH, ANY, async (request, reply) => {
      const info = await artifacts.head(parseRequest(byDigest, request.params).sha256);
      return describe(reply, info).header('content-length', info.bytes).send();
    });

    app.get(PATH, ANY, async (request, reply) => {
      const info = await artifacts.head(parseRequest(byDigest, request.params).sha256);
      describe(reply, info);
      const range = parseRange(request.headers.range, info.bytes);
      if (range === 'unsatisfiable') return reply.code(416).header('content-range', `bytes */${info.bytes}`).send();
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
    .type('application/octet-stream')
    .header('accept-ranges', 'bytes')
    .header('etag', `"${sha256}"`)
    .header('cache-control', 'private, max-age=31536000, immutable');
}
