/** Jobs over HTTP: submitting, listing, following, and every refusal in the one shape of errors. */
import assert from 'node:assert/strict';
import { MAX_DOCUMENT_BYTES, errorJson, type JobStatus } from '@patchbay/protocol';
import { Rig } from './support/rig.js';

interface Entry {
  readonly id: string;
  readonly event: string;
  readonly data: { readonly type: string; readonly state?: string; readonly text?: string; readonly cursor: string };
}

/** Reads server-sent events until `enough` says so or the stream ends. */
async function readEvents(response: Response, enough: (entries: readonly Entry[]) => boolean): Promise<Entry[]> {
  const entries: Entry[] = [];
  let text = '';
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const block = text.slice(0, end);
      text = text.slice(end + 2);
      if (block.startsWith(':')) continue;
      const fields = Object.fromEntries(
        block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
      );
      entries.push({ id: fields['id']!, event: fields['event']!, data: JSON.parse(fields['data']!) as Entry['data'] });
    }
    if (enough(entries)) return entries;
  }
  return entries;
}

const label = ({ data }: Entry): string => data.state ?? data.text ?? data.type;

describe('http', () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
    await rig.deploy('m');
  });
  after(() => rig.close());

  const document = { version: 1, model: 'm', runs: [{ inputs: { tokenIds: [[1]] } }] };

  it('needs the token under /api, and only there', async () => {
    for (const headers of [
      { authorization: '' },
      { authorization: 'Bearer wrong' },
      { authorization: 'Basic the-token' },
    ]) {
      const refused = await rig.fetch('/api/jobs', { headers });
      assert.equal(refused.status, 401);
      assert.equal(errorJson.parse(await refused.json()).code, 'PB_UNAUTHORIZED');
      assert.equal((await rig.fetch('/healthz', { headers })).status, 200);
      assert.equal((await rig.fetch('/metrics', { headers })).status, 200);
    }
  });

  it('says how every part is', async () => {
    const { body } = await rig.ask('GET', '/healthz');
    assert.deepEqual(body, {
      status: 'ok',
      parts: {
        redis: { status: 'ok' },
        orchestrator: { draining: false, running: 0 },
        gateway: { status: 'ok', address: rig.cluster.address },
        deployments: [{ name: 'm', status: 'ready' }],
      },
      sandboxLevel: null,
    });
  });

  it('counts jobs and phases', async () => {
    await rig.until(await rig.submit('m'), 'completed');
    const text = await (await rig.fetch('/metrics')).text();
    assert.match(text, /patchbay_jobs_total\{model="m",state="completed"\} [1-9]/);
    assert.match(text, /patchbay_job_phase_seconds_count\{model="m",phase="queue"\} [1-9]/);
    assert.match(text, /patchbay_queue_jobs\{model="m"\} 0/);
    assert.match(text, /nodejs_eventloop_lag_seconds/);
  });

  it('takes the same document under the same id once', async () => {
    const path = '/api/jobs?jobId=once';
    const first = await rig.ask('POST', path, document);
    assert.deepEqual([first.status, first.body], [201, { jobId: 'once', created: true }]);
    const second = await rig.ask('POST', path, { ...document, seed: 0 }); // the default, written out
    assert.deepEqual(second.body, { jobId: 'once', created: false });
    const other = await rig.ask('POST', path, { ...document, seed: 1 });
    assert.deepEqual([other.status, other.body['code'], other.body['jobId']], [409, 'PB_JOB_ID_CONFLICT', 'once']);
    await rig.until('once', 'completed');
    const { body } = await rig.ask<JobStatus & { document: { seed: number } }>('GET', '/api/jobs/once');
    assert.equal(body.document.seed, 0);
  });

  it('takes an id of digits, which BullMQ alone would refuse', async () => {
    await rig.ask('POST', '/api/jobs?jobId=123', document);
    await rig.until('123', 'completed');
  });

  const refusals: [string, string, string, unknown, number, string][] = [
    ['an unknown path', 'GET', '/api/nothing', undefined, 404, 'PB_NOT_FOUND'],
    ['an unknown job', 'GET', '/api/jobs/none', undefined, 404, 'PB_JOB_NOT_FOUND'],
    ['the result of an unknown job', 'GET', '/api/jobs/none/result', undefined, 404, 'PB_JOB_NOT_FOUND'],
    ['the events of an unknown job', 'GET', '/api/jobs/none/events', undefined, 404, 'PB_JOB_NOT_FOUND'],
    ['the cancel of an unknown job', 'POST', '/api/jobs/none/cancel', {}, 404, 'PB_JOB_NOT_FOUND'],
    ['an impossible id', 'GET', '/api/jobs/a%3Ab', undefined, 400, 'PB_REQUEST_INVALID'],
    ['an unknown state', 'GET', '/api/jobs?state=done', undefined, 400, 'PB_REQUEST_INVALID'],
    ['a cursor of its own', 'GET', '/api/jobs?cursor=x', undefined, 400, 'PB_REQUEST_INVALID'],
    [
      'an unknown key',
      'POST',
      '/api/jobs',
      { version: 1, model: 'm', runs: [{ inputs: { text: ['a'] } }], hookz: [] },
      400,
      'PB_DOCUMENT_UNKNOWN_KEY',
    ],
    [
      'an unknown model',
      'POST',
      '/api/jobs',
      { version: 1, model: 'x', runs: [{ inputs: { text: ['a'] } }] },
      404,
      'PB_MODEL_NOT_FOUND',
    ],
    ['a long document', 'POST', '/api/jobs', { pad: 'x'.repeat(MAX_DOCUMENT_BYTES) }, 413, 'PB_DOCUMENT_TOO_LARGE'],
    [
      'a very long body',
      'POST',
      '/api/jobs',
      { pad: 'x'.repeat(8 * MAX_DOCUMENT_BYTES) },
      413,
      'PB_DOCUMENT_TOO_LARGE',
    ],
    ['a deployment without a model', 'POST', '/api/models', { name: 'm' }, 400, 'PB_REQUEST_INVALID'],
  ];
  for (const [what, method, path, body, status, code] of refusals) {
    it(`refuses ${what}`, async () => {
      const refused = await rig.ask(method, path, body);
      assert.deepEqual([refused.status, errorJson.parse(refused.body).code], [status, code]);
    });
  }

  it('refuses what is no JSON', async () => {
    const headers = { 'content-type': 'application/json' };
    const refused = await rig.fetch('/api/jobs', { method: 'POST', body: '{', headers });
    assert.equal(refused.status, 400);
    assert.equal(errorJson.parse(await refused.json()).code, 'PB_REQUEST_INVALID');
    assert.equal((await rig.fetch('/api/jobs', { method: 'POST', body: 'x' })).status, 400);
  });

  it('has no result before the end', async () => {
    rig.cluster.script.start = () => undefined;
    const id = await rig.submit('m');
    const early = await rig.ask('GET', `/api/jobs/${id}/result`);
    assert.deepEqual([early.status, early.body['code']], [504, 'PB_WAIT_TIMEOUT']);
    await rig.cluster.until(() => rig.cluster.starts.at(-1)?.key.jobId === id, 'the start');
    rig.cluster.starts.at(-1)!.done();
    await rig.until(id, 'completed');
  });

  it('lists newest first, by page, filtered', async () => {
    rig.cluster.script.start = (job) => job.done();
    const ids: string[] = [];
    for (let count = 0; count < 5; count++) {
      const id = await rig.submit('m', { labels: { set: 'page', odd: String(count % 2) } });
      await rig.until(id, 'completed');
      ids.unshift(id);
    }
    const seen: string[] = [];
    let cursor = '';
    do {
      const page = await rig.ask<{ jobs: JobStatus[]; nextCursor?: string }>(
        'GET',
        `/api/jobs?limit=2&label=set:page&model=m&state=completed${cursor}`,
      );
      seen.push(...page.body.jobs.map(({ id }) => id));
      cursor = page.body.nextCursor === undefined ? '' : `&cursor=${encodeURIComponent(page.body.nextCursor)}`;
    } while (cursor !== '');
    assert.deepEqual(seen, ids);
    const odd = await rig.ask<{ jobs: JobStatus[] }>('GET', '/api/jobs?label=odd:1');
    assert.equal(odd.body.jobs.length, 2);
  });

  it('pages through jobs of one millisecond', async () => {
    const at = Date.now();
    const ids = ['tie-a', 'tie-b', 'tie-c'];
    for (const id of ids) {
      await rig.ask('POST', `/api/jobs?jobId=${id}`, { ...document, labels: { tie: 'yes' } });
      await rig.until(id, 'completed');
      await rig.client.zadd('patchbay:jobs', at, id);
    }
    const seen: string[] = [];
    for (let cursor = ''; ;) {
      const { body } = await rig.ask<{ jobs: JobStatus[]; nextCursor?: string }>(
        'GET',
        `/api/jobs?limit=1&label=tie:yes${cursor}`,
      );
      seen.push(...body.jobs.map(({ id }) => id));
      if (body.nextCursor === undefined) break;
      cursor = `&cursor=${body.nextCursor}`;
    }
    assert.deepEqual(seen, ids.toReversed());
  });

  it('follows the events of a job to its end, and resumes after a cursor', async () => {
    rig.cluster.script.start = () => undefined;
    const before = rig.cluster.starts.length;
    const id = await rig.submit('m');
    await rig.cluster.until(() => rig.cluster.starts.length > before, 'the start');
    const job = rig.cluster.starts.at(-1)!;
    job.running();
    job.event({ type: 'log', text: 'one' });
    const first = await rig.fetch(`/api/jobs/${id}/events`);
    assert.match(first.headers.get('content-type') ?? '', /text\/event-stream/);
    const seen = await readEvents(first, (entries) => entries.length === 4);
    assert.deepEqual(seen.map(label), ['queued', 'placing', 'running', 'one']);
    assert.deepEqual(
      seen.map(({ event }) => event),
      ['state', 'state', 'state', 'log'],
    );
    assert.ok(seen.every(({ id: cursor, data }) => cursor === data.cursor));

    const resumed = rig.fetch(`/api/jobs/${id}/events`, { headers: { 'last-event-id': seen[1]!.id } });
    job.event({ type: 'log', text: 'two' });
    job.done();
    const rest = await readEvents(await resumed, () => false);
    assert.deepEqual(rest.map(label), ['running', 'one', 'two', 'completed']);

    const nothing = await rig.fetch(`/api/jobs/${id}/events`, { headers: { 'last-event-id': rest.at(-1)!.id } });
    assert.deepEqual(await readEvents(nothing, () => false), [], 'ends at once');
    const wrong = await rig.fetch(`/api/jobs/${id}/events`, { headers: { 'last-event-id': 'yesterday' } });
    assert.equal(wrong.status, 400);
  });
});
