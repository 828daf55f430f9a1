/** What the dashboard asks over HTTP: sessions, roles, other sites, queues, live changes, place, retry, remove, tensors. */
import assert from 'node:assert/strict';
import { errorJson, keys } from '@patchbay/protocol';
import { Rig, TOKEN } from './support/rig.js';

const READ = 'the-read-token';
const document = { version: 1, model: 'm', labels: { who: 'me' }, runs: [{ inputs: { tokenIds: [[1]] } }] };

describe('http for the dashboard', () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start({ readToken: READ });
    await rig.deploy('m');
  });
  after(() => rig.close());

  const call = (path: string, init: RequestInit = {}): Promise<Response> =>
    fetch(rig.http + path, { redirect: 'manual', ...init });
  const codeOf = async (response: Response): Promise<string> => errorJson.parse(await response.json()).code;
  const json = { 'content-type': 'application/json' };

  async function signIn(token: string): Promise<string> {
    const response = await call('/api/session', { method: 'POST', headers: json, body: JSON.stringify({ token }) });
    assert.equal(response.status, 200);
    const cookie = response.headers.get('set-cookie')!;
    assert.match(cookie, /; HttpOnly; SameSite=Strict/);
    return cookie.split(';')[0]!;
  }

  async function submit(): Promise<string> {
    const { body } = await rig.ask<{ jobId: string }>('POST', '/api/jobs', document);
    return body.jobId;
  }

  it('signs in by token, by address, and out again', async () => {
    const refused = await call('/api/session', { method: 'POST', headers: json, body: '{"token":"wrong"}' });
    assert.equal(await codeOf(refused), 'PB_UNAUTHORIZED');
    const cookie = await signIn(TOKEN);
    assert.equal((await call('/api/jobs', { headers: { cookie } })).status, 200);
    assert.equal((await call('/api/jobs', { headers: { cookie: `${cookie}x` } })).status, 401);
    const forged = cookie.replace('operator', 'reader');
    assert.equal((await call('/api/jobs', { headers: { cookie: forged } })).status, 401);

    const byAddress = await call(`/jobs/x?token=${TOKEN}&a=1`);
    assert.deepEqual([byAddress.status, byAddress.headers.get('location')], [303, '/jobs/x?a=1']);
    assert.match(byAddress.headers.get('set-cookie')!, /HttpOnly/);
    const wrong = await call('/?token=wrong');
    assert.deepEqual([wrong.status, wrong.headers.get('set-cookie')], [303, null]);
    const out = await call('/api/session', { method: 'DELETE', headers: { cookie } });
    assert.match(out.headers.get('set-cookie')!, /^patchbay_session=; .*Max-Age=0/);
  });

  it('lets a reader look, and change nothing', async () => {
    const id = await submit();
    const cookie = await signIn(READ);
    const ways: readonly Record<string, string>[] = [{ cookie }, { authorization: `Bearer ${READ}` }];
    for (const headers of ways) {
      for (const path of ['/api/jobs', `/api/jobs/${id}`, '/api/queues', '/api/models'])
        assert.equal((await call(path, { headers })).status, 200, path);
      for (const [method, path] of [
        ['POST', `/api/jobs/${id}/cancel`],
        ['POST', `/api/jobs/${id}/retry`],
        ['DELETE', `/api/jobs/${id}`],
        ['DELETE', '/api/models/m'],
        ['POST', '/api/queues/m/drain'],
        ['PUT', `/api/artifacts/${'0'.repeat(64)}`],
      ] as const) {
        const response = await call(path, { method, headers });
        assert.deepEqual([path, response.status, await codeOf(response)], [path, 403, 'PB_READ_ONLY']);
      }
    }
  });

  it("refuses what another site's page sends, with and without Origin", async () => {
    const cookie = await signIn(TOKEN);
    const id = await submit();
    const foreign: readonly Record<string, string>[] = [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
    ];
    for (const headers of foreign) {
      const response = await call(`/api/jobs/${id}/cancel`, { method: 'POST', headers: { cookie, ...headers } });
      assert.deepEqual([response.status, await codeOf(response)], [403, 'PB_CROSS_ORIGIN']);
    }
    const own = { cookie, origin: rig.http, 'sec-fetch-site': 'same-origin' };
    assert.equal((await call(`/api/jobs/${id}/cancel`, { method: 'POST', headers: own })).status, 200);
  });

  it('serves its pages under a strict policy, and bull-board to those who are signed in', async () => {
    for (const path of ['/', '/jobs/some-id', '/cluster']) {
      const response = await call(path);
      assert.equal(response.status, 200, path);
      const policy = response.headers.get('content-security-policy')!;
      assert.match(policy, /default-src 'none'/);
      assert.doesNotMatch(policy, /unsafe|https?:|\*/);
      const html = await response.text();
      assert.doesNotMatch(html, /<script(?![^>]* src="\/assets\/)|<style|https?:\/\//);
    }
    assert.equal((await call('/queues/api/queues')).status, 401);
    const cookie = await signIn(TOKEN);
    assert.equal((await call('/queues', { headers: { cookie, accept: 'text/html' } })).status, 200);
    const change = await call('/queues/api/queues/jobs-m/pause', { method: 'PUT', headers: { cookie } });
    assert.equal(await codeOf(change), 'PB_READ_ONLY');
  });

  it('tells the place in the queue, drains and resumes, starts again and forgets', async () => {
    await rig.ask('POST', '/api/queues/m/drain', { draining: true });
    const [first, second] = [await submit(), await submit()];
    assert.deepEqual((await rig.ask('GET', `/api/jobs/${first}/place`)).body, { ahead: 0, expectedStartMs: null });
    assert.deepEqual((await rig.ask('GET', `/api/jobs/${second}/place`)).body, { ahead: 1, expectedStartMs: null });
    const { body: overview } = await rig.ask<{ queues: { waiting: number; draining: boolean; points: unknown[] }[] }>(
      'GET',
      '/api/queues?minutes=5',
    );
    assert.deepEqual(
      overview.queues.map(({ waiting, draining, points }) => [waiting, draining, points.length]),
      [[2, true, 5]],
    );
    const early = await rig.ask<{ code: string }>('DELETE', `/api/jobs/${second}`);
    assert.deepEqual([early.status, early.body.code], [409, 'PB_JOB_RUNNING']);
    await rig.ask('POST', `/api/jobs/${second}/cancel`);
    assert.equal((await rig.fetch(`/api/jobs/${second}`, { method: 'DELETE' })).status, 204);
    assert.equal((await rig.ask('GET', `/api/jobs/${second}`)).status, 404);
    assert.equal(await rig.client.exists(keys.job(second), keys.events(second)), 0);

    const again = await rig.ask<{ jobId: string }>('POST', `/api/jobs/${first}/retry`);
    assert.equal(again.status, 201);
    const { body: copy } = await rig.ask<{ labels: object }>('GET', `/api/jobs/${again.body.jobId}`);
    assert.deepEqual(copy.labels, { who: 'me', retryOf: first });
    for (const id of [first, again.body.jobId]) await rig.ask('POST', `/api/jobs/${id}/cancel`);
    await rig.ask('POST', '/api/queues/m/drain', { draining: false });
  });

  it('finds jobs by text in ids, labels and errors', async () => {
    const id = await submit();
    const find = async (text: string): Promise<string[]> => {
      const { body } = await rig.ask<{ jobs: { id: string }[] }>('GET', `/api/jobs?text=${encodeURIComponent(text)}`);
      return body.jobs.map((job) => job.id);
    };
    assert.deepEqual(await find(id.slice(0, 13).toUpperCase()), [id]);
    assert.ok((await find('WHO')).includes(id));
    assert.deepEqual(await find('nothing has this'), []);
  });

  it('tells changes as they happen, and what was missed after a break', async () => {
    const headers: Record<string, string> = { authorization: `Bearer ${TOKEN}` };
    async function until(lastEventId: string | undefined, wanted: string): Promise<{ cursor: string; text: string }> {
      const abort = new AbortController();
      const response = await call('/api/changes', {
        headers: { ...headers, ...(lastEventId !== undefined && { 'last-event-id': lastEventId }) },
        signal: abort.signal,
      });
      let text = '';
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
        text += part;
        if (text.includes(wanted) && text.endsWith('\n\n')) break;
      }
      abort.abort();
      return { cursor: [...text.matchAll(/^id: (.+)$/gm)].at(-1)![1]!, text };
    }
    const { cursor } = await until(undefined, 'event: ready');
    const id = await submit();
    const { text } = await until(cursor, id);
    assert.match(text, /event: jobs/);
    assert.match(text, /"state":"queued"/);
    assert.match((await until('0-1', 'event: reset')).text, /event: reset/);
    const bad = await call('/api/changes', { headers: { ...headers, 'last-event-id': 'x' } });
    assert.equal(await codeOf(bad), 'PB_REQUEST_INVALID');
  });
});

describe('http without a token', () => {
  it('answers to its own names only, so that no other name can be pointed at it', async () => {
    const rig = await Rig.start({ token: undefined as never });
    try {
      const { request } = await import('node:http');
      const status = (host: string): Promise<number> =>
        new Promise((resolve, reject) => {
          request(`${rig.http}/api/jobs`, { headers: { host } }, (response) => {
            response.resume();
            resolve(response.statusCode!);
          })
            .on('error', reject)
            .end();
        });
      assert.equal(await status('127.0.0.1:80'), 200);
      assert.equal(await status('localhost:8787'), 200);
      assert.equal(await status('rebound.evil.example:8787'), 401);
    } finally {
      await rig.close();
    }
  });
});
