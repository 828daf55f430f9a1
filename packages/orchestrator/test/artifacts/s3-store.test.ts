/** What is special about a store in S3: parts, listing, and a store that cannot be used. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { S3Store } from '../../src/artifacts/s3-store.js';
import { startOrchestrator } from '../../src/index.js';
import { startS3, type TestS3 } from '../support/s3.js';

const digestOf = (content: Buffer): string => createHash('sha256').update(content).digest('hex');

describe('artifacts in S3', function () {
  this.timeout(30_000);
  let s3: TestS3;
  let store: S3Store;
  before(async () => {
    s3 = await startS3();
    store = new S3Store(new URL(s3.location), 1 << 30);
  });
  after(() => s3.close());

  /** In chunks, as they come from a socket. */
  const chunks = (content: Buffer): Readable =>
    Readable.from(
      (function* () {
        for (let at = 0; at < content.length; at += 1 << 20) yield content.subarray(at, at + (1 << 20));
      })(),
    );

  it('of more than a part arrive whole, and a wrong digest leaves nothing of them', async () => {
    const content = Buffer.alloc(70 << 20, 'patchbay');
    const sha256 = digestOf(content);
    await assert.rejects(store.put('b'.repeat(64), chunks(content)), { code: 'PB_ARTIFACT_CORRUPT' });
    assert.deepEqual(await s3.contents(), { keys: [], begun: 0 });
    assert.deepEqual(await store.put(sha256, chunks(content)), { sha256, bytes: content.length });
    assert.deepEqual(await s3.contents(), { keys: [`artifacts/${sha256}`], begun: 0 });
    assert.equal(digestOf(await buffer(await store.get(sha256))), sha256);
    const end = await buffer(await store.get(sha256, { start: content.length - 5, end: content.length - 1 }));
    assert.equal(end.toString(), content.subarray(-5).toString());
  });

  it('are listed by age and deleted', async () => {
    const content = Buffer.from('wanted for a while');
    const sha256 = digestOf(content);
    await store.put(sha256, Readable.from([content]));
    assert.ok((await store.olderThan(Date.now() + 60_000)).includes(sha256));
    assert.ok(!(await store.olderThan(Date.now() - 60_000)).includes(sha256));
    assert.equal(await store.delete(sha256), true);
    assert.equal(await store.delete(sha256), false);
    await assert.rejects(store.get(sha256), { code: 'PB_ARTIFACT_NOT_FOUND' });
  });

  it('a bucket that is not there, or a name that is none, is told at the start', async () => {
    const options = { redisUrl: '/nowhere/redis.sock', httpPort: 0, logLevel: 'silent' } as const;
    await assert.rejects(startOrchestrator({ ...options, artifactStore: 's3://no-such-bucket' }), {
      code: 'PB_ARTIFACT_STORE_UNAVAILABLE',
      message: /s3:\/\/no-such-bucket/,
    });
    await assert.rejects(startOrchestrator({ ...options, artifactStore: '/var/artifacts' }), {
      code: 'PB_CONFIG_INVALID',
    });
  });
});
