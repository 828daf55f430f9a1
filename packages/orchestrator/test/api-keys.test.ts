/** What an API key may ask for: its own jobs and nothing that belongs to others or to the installation. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digestOfKey } from '../src/http/api-keys.js';
import { TOKEN, Rig } from './support/rig.js';

const ANN = 'key of ann';
const BOB = 'key of bob';

describe('an API key', () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
    const submitters = join(rig.home, 'submitters.toml');
    const entry = (name: string, key: string): string => `[${name}]\nkeySha256 = "${digestOfKey(key)}"\n`;
    writeFileSync(submitters, entry('ann', ANN) + entry('bob', BOB));
    await rig.orchestrate({ submitters });
    await rig.deploy('m');
  });
  after(() => rig.close());

  const as = async (key: string, method: string, path: string, body?: unknown): Promise<Response> => {
    const headers = {
      authorization: `Bearer ${key}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
    };
    return rig.fetch(path, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) });
  };
  const codeOf = async (response: Response): Promise<[number, string]> => [
    response.status,
    ((await response.json()) as { code: string }).code,
  ];
  const submit = async (key: string, labels = {}): Promise<string> => {
    const document = { version: 1, model: 'm', labels, runs: [{ inputs: { tokenIds: [[1]] } }] };
    const response = await as(key, 'POST', '/api/jobs', document);
    assert.equal(response.status, 201);
    return ((await response.json()) as { jobId: string }).jobId;
  };
  const listed = async (key: string): Promise<string[]> =>
    ((await (await as(key, 'GET', '/api/jobs')).json()) as { jobs: { id: string }[] }).jobs.map(({ id }) => id);

  it('submits, and reads, follows, repeats, cancels and deletes its own jobs', async () => {
    const id = await submit(ANN);
    await rig.until(id, 'completed');
    for (const path of ['', '/result', '/events', '/place', '/tensors'])
      assert.equal((await as(ANN, 'GET', `/api/jobs/${id}${path}`)).status, 200, path);
    const again = (await (await as(ANN, 'POST', `/api/jobs/${id}/retry`)).json()) as { jobId: string };
    assert.equal((await rig.until(again.jobId, 'completed')).submitter, 'ann', 'the repeated job is hers, too');
    assert.equal((await as(ANN, 'POST', `/api/jobs/${id}/cancel`, {})).status, 200);
    assert.equal((await as(ANN, 'DELETE', `/api/jobs/${id}`)).status, 204);
  });

  it('looks at what is deployed, and brings inputs', async () => {
    for (const path of ['/api/models', '/api/models/m', '/api/queues'])
      assert.equal((await as(ANN, 'GET', path)).status, 200, path);
    const document = { version: 1, model: 'm', runs: [{ inputs: { tokenIds: [[1]] } }] };
    assert.equal((await as(ANN, 'POST', '/api/validate', document)).status, 200);
    const digest = digestOfKey('content');
    assert.equal((await rig.fetch(`/api/artifacts/${digest}`, { method: 'PUT', body: 'content', headers: { authorization: `Bearer ${ANN}` } })).status, 201); // prettier-ignore
    assert.equal((await as(ANN, 'GET', `/api/artifacts/${digest}`)).status, 200);
  });

  it('sees no job of another, and does nothing to it', async () => {
    const id = await submit(BOB, { submitter: 'ann' });
    await rig.until(id, 'completed');
    const asked: [string, string][] = [
      ['GET', ''], ['GET', '/result'], ['GET', '/events'], ['GET', '/place'], ['GET', '/tensors'],
      ['POST', '/cancel'], ['POST', '/retry'], ['DELETE', ''],
    ]; // prettier-ignore
    for (const [method, path] of asked)
      assert.deepEqual(
        await codeOf(await as(ANN, method, `/api/jobs/${id}${path}`)),
        [404, 'PB_JOB_NOT_FOUND'],
        method + path,
      );
    assert.ok(!(await listed(ANN)).includes(id));
    assert.ok((await listed(BOB)).includes(id));
    assert.ok((await listed(TOKEN)).includes(id), 'the operator sees all');
    assert.equal((await rig.status(id)).state, 'completed', 'it is still there');
  });

  it('changes nothing of the installation', async () => {
    const asked: [string, string, unknown?][] = [
      ['POST', '/api/models', { name: 'n', model: '/n' }],
      ['DELETE', '/api/models/m'],
      ['POST', '/api/queues/m/drain', { draining: true }],
      ['GET', '/api/cluster'],
      ['GET', '/api/changes'],
      ['GET', '/queues'],
    ];
    for (const [method, path, body] of asked)
      assert.deepEqual(await codeOf(await as(ANN, method, path, body)), [403, 'PB_OPERATOR_ONLY'], path);
    assert.ok(rig.cluster.deployments.has('m') && !rig.cluster.deployments.has('n'));
  });

  it('is refused when it is nobody’s, and opens no session', async () => {
    assert.deepEqual(await codeOf(await as('key of eve', 'GET', '/api/jobs')), [401, 'PB_UNAUTHORIZED']);
    assert.deepEqual(await codeOf(await as(ANN, 'POST', '/api/session', { token: ANN })), [401, 'PB_UNAUTHORIZED']);
  });
});
