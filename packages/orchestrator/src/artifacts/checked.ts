/** Passes content on while it is counted and hashed. @module */
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { error } from '@patchbay/protocol';

/** @throws `PB_LIMIT_EXCEEDED` as soon as it is too large, `PB_ARTIFACT_CORRUPT` at its end when it has another digest */
export async function* checked(content: Readable, sha256: string, maxBytes: number): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of content as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw error('PB_LIMIT_EXCEEDED', { what: 'artifact', actual: bytes, limit: maxBytes });
    hash.update(chunk);
    yield chunk;
  }
  const digest = hash.digest('hex');
  if (digest === sha256) return;
  const reason = `its content has the digest ${digest}`;
  throw error('PB_ARTIFACT_CORRUPT', { artifact: `sha256:${sha256}`, reason });
}
