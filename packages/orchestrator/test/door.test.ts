/** Everything that listens over HTTP, as a stranger meets it: every path that the documentation lists, and some that it does not. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { errorJson } from '@patchbay/protocol';
import { Rig, TOKEN } from './support/rig.js';

const GATEWAY_TOKEN = 'gateway-token';
const HTTP_DOCS = join(import.meta.dirname, '../../../docs/http.md');
/** Signing in is what one does without a token. */
const OPEN = ['/api/session'];
const TRAVERSALS = [
  '/../../../../etc/passwd',
  '/%2e%2e/%2e%2e/%2e%2e/etc/passwd',
  '/..%2f..%2f..%2fetc%2fpasswd',
  '/assets/..%5c..%5cetc%5cpasswd',
  '//etc/passwd',
  '/api/artifacts/..%2f..%2f..%2fetc%2fpasswd',
  '/api/artifacts/%00',
  `/api/artifacts/${'a'.repeat(5_000)}`,
  '/api/jobs/..%2f..%2fsettings',
  '/api/models/%2e%2e',
];

interface Answer {
  readonly status: number;
  readonly text: string;
}

describe('the door', () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
    await rig.deploy('m');
  });
  after(() => rig.close());

  /** As it is written: fetch would resolve the dots itself. */
  const raw = async (path: string, options: { method?: string; token?: string; body?: string } = {}): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const { hostname, port } = new URL(rig.http);
      const headers = {
        ...(options.token !== undefined && { authorization: `Bearer ${options.token}` }),
        ...(options.body !== undefined && { 'content-type': 'application/json' }),
      };
      const sent = request({ hostname, port, path, method: options.method ?? 'GET', headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => (text += part));
        response.on('end', () => resolve({ status: response.statusCode!, text }));
      });
      sent.on('error', reject);
      sent.end(options.body);
    });

  const documented = (): [method: string, path: string][] =>
    [...readFileSync(HTTP_DOCS, 'utf8').matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell]) => {
      const path = /(\/api\/[^\s?`]*)/.exec(cell!)?.[1];
      if (path === undefined || OPEN.includes(path)) return [];
      const filled = path.replace(':sha256', 'a'.repeat(64)).replace(/:\w+/, 'm');
      return [...cell!.matchAll(/\b(GET|POST|PUT|DELETE|HEAD)\b/g)].map(([method]): [string, string] => [
        method,
        filled,
      ]);
    });

  it('is closed on every path that the documentation lists', async () => {
    const paths = documented();
    assert.ok(paths.length >= 20, `the table was read: ${paths.length}`);
    for (const [method, path] of paths) {
      for (const token of [undefined, 'wrong', '', `${TOKEN}x`, TOKEN.toUpperCase()]) {
        const { status, text } = await raw(path, { method, ...(token !== undefined && { token }) });
        assert.equal(status, 401, `${method} ${path} with ${token}`);
        if (method !== 'HEAD') assert.equal(errorJson.parse(JSON.parse(text)).code, 'PB_UNAUTHORIZED');
      }
    }
  });

  it('leads to no file, however the path is written', async () => {
    for (const path of TRAVERSALS) {
      for (const token of [undefined, TOKEN]) {
        const { status, text } = await raw(path, token === undefined ? {} : { token });
        assert.doesNotMatch(text, /root:.*:0:0:/, path);
        assert.ok([400, 401, 404, 414].includes(status), `${path}: ${status}`);
      }
    }
  });

  it('takes no more than it can hold, and says so', async () => {
    const large = await raw('/api/jobs', { method: 'POST', token: TOKEN, body: `"${'x'.repeat(2 ** 21)}"` });
    assert.equal(large.status, 413);
    assert.equal(errorJson.parse(JSON.parse(large.text)).code, 'PB_DOCUMENT_TOO_LARGE');
    const deep = await raw('/api/jobs', {
      method: 'POST',
      token: TOKEN,
      body: '['.repeat(30_000) + ']'.repeat(30_000),
    });
    assert.equal(deep.status, 400, deep.text);
    const polluted = '{"version":1,"model":"m","__proto__":{"x":1},"runs":[{"inputs":{"tokenIds":[[1]]}}]}';
    assert.equal((await raw('/api/jobs', { method: 'POST', token: TOKEN, body: polluted })).status, 400);
    assert.equal(({} as Record<string, unknown>)['x'], undefined);
  });

  it('tells no secret, whatever is asked', async () => {
    const paths = documented().filter(([method, path]) => method === 'GET' && !/events|changes/.test(path));
    const open = ['/healthz', '/metrics', '/', '/nowhere'].map((path): [string, string] => ['GET', path]);
    for (const [, path] of [...paths, ...open]) {
      const { text } = await raw(path, { token: TOKEN });
      for (const secret of [TOKEN, GATEWAY_TOKEN, 'gang-1']) assert.ok(!text.includes(secret), `${secret} at ${path}`);
    }
  });
});
