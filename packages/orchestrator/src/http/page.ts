/**
 * The dashboard's files, read once from the built package, so that no path of a request ever reaches the file system; and the
 * addresses of its pages. Not here: what the page shows (packages/dashboard).
 * @module
 */
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join, relative } from 'node:path';
import { brotliCompressSync } from 'node:zlib';
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from '../log.js';
import type { Auth } from './auth.js';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Nothing from elsewhere, no inline script, no text that becomes markup. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
};

interface PageFile {
  readonly type: string;
  readonly plain: Buffer;
  readonly small: Buffer;
}

function readPage(log: Logger): Map<string, PageFile> {
  const files = new Map<string, PageFile>();
  try {
    const root = join(dirname(createRequire(import.meta.url).resolve('@patchbay/dashboard/package.json')), 'dist/page');
    for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
      const path = join(root, name);
      if (!statSync(path).isFile()) continue;
      const plain = readFileSync(path);
      const type = TYPES[extname(name)] ?? 'application/octet-stream';
      files.set(`/${relative(root, path)}`, { type, plain, small: brotliCompressSync(plain) });
    }
  } catch (cause) {
    log.warn({ reason: (cause as Error).message }, 'the dashboard is not built: npm run setup');
  }
  return files;
}

/** A token in the address becomes a session, and leaves the address. True when the reply has been sent. */
export function signInByAddress(auth: Auth, request: FastifyRequest, reply: FastifyReply): boolean {
  const url = new URL(request.url, 'http://page');
  const token = url.searchParams.get('token');
  if (token === null) return false;
  url.searchParams.delete('token');
  const role = auth.required ? auth.roleOfToken(token) : undefined;
  if (role !== undefined) void reply.header('set-cookie', auth.sessionCookie(role, request.protocol === 'https'));
  void reply.header('referrer-policy', 'no-referrer').redirect(`${url.pathname}${url.search}`, 303);
  return true;
}

export function pageRoutes({ auth, log }: { readonly auth: Auth; readonly log: Logger }): FastifyPluginAsync {
  return async (app) => {
    const files = readPage(log);
    const index = files.get('/index.html');
    if (index === undefined) return;
    const send = (request: FastifyRequest, reply: FastifyReply, file: PageFile, cache: string): FastifyReply => {
      const small = /\bbr\b/.test(String(request.headers['accept-encoding'] ?? ''));
      void reply.headers(SECURITY_HEADERS).header('cache-control', cache).header('vary', 'accept-encoding');
      if (small) void reply.header('content-encoding', 'br');
      return reply.type(file.type).send(small ? file.small : file.plain);
    };
    for (const path of ['/', '/jobs', '/jobs/*', '/cluster', '/sign-in']) {
      app.get(path, async (request, reply) => {
        if (signInByAddress(auth, request, reply)) return reply;
        return send(request, reply.header('content-security-policy', POLICY), index, 'no-cache');
      });
    }
    for (const [path, file] of files) {
      if (file === index) continue;
      app.get(path, async (request, reply) => send(request, reply, file, 'public, max-age=31536000, immutable'));
    }
  };
}
