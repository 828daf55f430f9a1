/** The artifact store over HTTP: content-addressed, verified, ranges; and who may use it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Tickets } from '../../src/artifacts/tickets.js';
import { parseRange } from '../../src/http/range.js';
import type { OrchestratorOptions } from '../../src/index.js';
import { Rig, TOKEN } from '../support/rig.js';
import { startS3 } from '../support/s3.js';

const content = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 251));
const sha256 = createHash('sha256').update(content).digest('hex');
const missing = '0'.repeat(64);

/** A kind of store: how a rig gets it, and how many uploads lie in it half done. */
interface Kind {
  readonly options: OrchestratorOptions;
  readonly halfDone: (home: string) => Promise<number>;
  readonly close: () => Promise<void>;
}

const kinds: Readonly<Record<string, () => Promise<Kind>>> = {
  'a directory': async () => ({
    options: {},
    halfDone: async (home) => readdirSync(join(home, 'artifacts/incoming')).length,
    close: async () => undefined,
  }),
  S3: async () => {
    const s3 = await startS3();
    return {
      options: { artifactStore: s3.location },
      halfDone: async () => (await s3.contents()).begun,
      close: () => s3.close(),
    };
  },
};

for (const [name, start] of Object.entries(kinds))
  describe(`artifacts in ${name}`, () => {
    let rig: Rig;
    let kind: Kind;
    before(async function () {
      this.timeout(30_000);
      kind = await start();
      rig = await Rig.start({ artifactMaxBytes: 1_000_000, ...kind.options });
    });
    after(async () => {
      await rig.close();
      await kind.close();
    });

    const url = (digest: string): string => `/api/artifacts/${digest}`;
    const put = (digest: string, body: Buffer, headers: Record<string, string> = {}): Promise<Response> =>
      rig.fetch(url(digest), { method: 'PUT', body: new Uint8Array(body), headers });
    const codeOf = async (response: Response): Promise<string> => ((await response.json()) as { code: string }).code;

    it('come back as they were, in whole and in part', async () => {
      const stored = await put(sha256, content, { 'content-type': 'application/octet-stream' });
      assert.equal(stored.status, 201);
      assert.deepEqual(await stored.json(), { sha256, bytes: content.length });

      const whole = await rig.fetch(url(sha256));
      assert.equal(whole.status, 200);
      assert.equal(whole.headers.get('content-length'), String(content.length));
      assert.equal(whole.headers.get('etag'), `"${sha256}"`);
      assert.ok(Buffer.from(await whole.arrayBuffer()).equals(content));

      const part = await rig.fetch(url(sha256), { headers: { range: 'bytes=100-199' } });
      assert.equal(part.status, 206);
      assert.equal(part.headers.get('content-range'), `bytes 100-199/${content.length}`);
      assert.ok(Buffer.from(await part.arrayBuffer()).equals(content.subarray(100, 200)));

      const tail = await rig.fetch(url(sha256), { headers: { range: 'bytes=-10' } });
      assert.ok(Buffer.from(await tail.arrayBuffer()).equals(content.subarray(-10)));

      const beyond = await rig.fetch(url(sha256), { headers: { range: `bytes=${content.length}-` } });
      assert.equal(beyond.status, 416);
      assert.equal(beyond.headers.get('content-range'), `bytes */${content.length}`);
      assert.equal(beyond.headers.get('cache-control'), null, 'a refusal is not kept for ever');
      assert.equal(await codeOf(beyond), 'PB_REQUEST_INVALID');

      const head = await rig.fetch(url(sha256), { method: 'HEAD' });
      assert.deepEqual([head.status, head.headers.get('content-length')], [200, String(content.length)]);
    });

    it('may be put again, in any content type, and may be empty', async () => {
      assert.equal((await put(sha256, content, { 'content-type': 'application/json' })).status, 201);
      const empty = createHash('sha256').digest('hex');
      assert.equal((await put(empty, Buffer.alloc(0))).status, 201);
      assert.equal((await (await rig.fetch(url(empty))).arrayBuffer()).byteLength, 0);
    });

    it('of another content are refused and leave nothing', async () => {
      const digest = 'a'.repeat(64);
      const refused = await put(digest, content);
      assert.deepEqual([refused.status, await codeOf(refused)], [422, 'PB_ARTIFACT_CORRUPT']);
      assert.equal((await rig.fetch(url(digest), { method: 'HEAD' })).status, 404);
      assert.equal(await kind.halfDone(rig.home), 0);
    });

    it('that break off leave nothing', async () => {
      const body = new ReadableStream({
        start: (controller) => {
          controller.enqueue(new Uint8Array(content.subarray(0, 1000)));
          controller.error(new Error('gone'));
        },
      });
      const init = { method: 'PUT', body, duplex: 'half' } as RequestInit;
      await assert.rejects(rig.fetch(url(sha256), init));
      await rig.fetch('/healthz');
      const end = Date.now() + 5_000;
      while ((await kind.halfDone(rig.home)) > 0) {
        assert.ok(Date.now() < end, 'the half written file is still there');
        await rig.fetch('/healthz');
      }
    });

    it('that are too large are refused, announced or not', async () => {
      const large = Buffer.alloc(1_000_001);
      const digest = createHash('sha256').update(large).digest('hex');
      const announced = await put(digest, large);
      assert.deepEqual([announced.status, await codeOf(announced)], [413, 'PB_LIMIT_EXCEEDED']);
      const body = new Blob([new Uint8Array(large)]).stream();
      const streamed = await rig.fetch(url(digest), { method: 'PUT', body, duplex: 'half' }).catch(() => undefined);
      // the connection may be closed under the rest of the upload before the answer is read
      if (streamed !== undefined) assert.equal(streamed.status, 413);
      assert.equal((await rig.fetch(url(digest), { method: 'HEAD' })).status, 404);
    });

    it('that are not there, or no digests, are refused', async () => {
      const gone = await rig.fetch(url(missing));
      assert.deepEqual([gone.status, await codeOf(gone)], [404, 'PB_ARTIFACT_NOT_FOUND']);
      for (const name of ['abc', `${missing}0`, missing.replace('0', 'G'), '..%2f..%2fetc%2fpasswd']) {
        const refused = await rig.fetch(url(name));
        assert.deepEqual([refused.status, await codeOf(refused)], [400, 'PB_REQUEST_INVALID'], name);
      }
    });

    it('are open to a ticket, which opens nothing else', async () => {
      const ticket = new Tickets(TOKEN).issue('job', 1, Date.now() + 60_000);
      const authorization = `Bearer ${ticket}`;
      assert.equal((await put(sha256, content, { authorization })).status, 201);
      assert.equal((await rig.fetch(url(sha256), { headers: { authorization } })).status, 200);
      for (const path of ['/api/jobs', '/api/models', '/api/jobs/job']) {
        const refused = await rig.fetch(path, { headers: { authorization } });
        assert.deepEqual([refused.status, await codeOf(refused)], [401, 'PB_UNAUTHORIZED'], path);
      }
    });

    it('are closed to everybody else', async () => {
      const expired = new Tickets(TOKEN).issue('job', 1, Date.now() - 1);
      const foreign = new Tickets('another token').issue('job', 1, Date.now() + 60_000);
      const forged = new Tickets(TOKEN).issue('job', 1, Date.now() + 60_000).replace('.1.', '.2.');
      for (const bearer of [expired, foreign, forged, 'nonsense', '']) {
        const refused = await rig.fetch(url(sha256), { headers: { authorization: `Bearer ${bearer}` } });
        assert.equal(refused.status, 401, bearer);
      }
    });
  });

describe('the Range header', () => {
  const cases: [string | undefined, ReturnType<typeof parseRange>][] = [
    [undefined, undefined],
    ['bytes=0-0', { start: 0, end: 0 }],
    ['bytes=5-', { start: 5, end: 9 }],
    ['bytes=5-100', { start: 5, end: 9 }],
    ['bytes=-3', { start: 7, end: 9 }],
    ['bytes=-30', { start: 0, end: 9 }],
    ['bytes=10-', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    ['bytes=5-3', undefined],
    ['bytes=0-1,3-4', undefined],
    ['bytes=-', undefined],
    ['lines=1-2', undefined],
  ];
  for (const [header, expected] of cases)
    it(`${header ?? 'none'}`, () => assert.deepEqual(parseRange(header, 10), expected));
});
