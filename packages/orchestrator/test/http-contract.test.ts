/** The service serves the routes of the contract, and no request, however wrong, gets anything but an error in the one shape. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROUTES, openApi, type Route } from '@patchbay/protocol/http';
import { checkAnswer } from '../../../tests/support/http-contract.js';
import { Rig } from './support/rig.js';

/** Texts and values that no route can do anything with. */
const WRONG_TEXTS = ['', '%00', '%2e%2e%2f', 'a:b', '-1', 'NaN', '1e999', 'x'.repeat(300), '%F0%9F%92%A5', '[object]'];
const WRONG_BODIES = ['', '{', 'null', '[]', '{}', '"x"', '1', '{"__proto__":{"x":1}}', `{"a":${'['.repeat(5_000)}`];

const filled = ({ path, params }: Route, value: string): string =>
  Object.keys(params?.shape ?? {}).reduce((text, name) => text.replace(`:${name}`, value), path);

describe('http contract', () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
    await rig.deploy('m');
  });
  after(() => rig.close());

  async function send(method: string, path: string, init: RequestInit = {}): Promise<number> {
    const response = await rig.fetch(path, { method, ...init });
    const text = method === 'HEAD' ? '' : await response.text();
    const type = response.headers.get('content-type') ?? '';
    if (response.status < 400 || method !== 'HEAD') checkAnswer(method, path, response.status, type, text);
    assert.ok(response.status < 500, `${method} ${path} ${response.status} ${text}`);
    return response.status;
  }

  it('has every API route in the table, none beside it', () => {
    const folder = join(import.meta.dirname, '../src/http/routes');
    for (const file of readdirSync(folder)) {
      const text = readFileSync(join(folder, file), 'utf8');
      assert.doesNotMatch(
        text,
        /app\.(get|put|post|delete|head|route)\(/,
        `${file}: serve() takes routes of the table`,
      );
    }
  });

  it('describes itself', async () => {
    const { status, body } = await rig.ask('GET', '/api/openapi.json');
    assert.equal(status, 200);
    assert.deepEqual(body, openApi((body['info'] as { version: string }).version));
    const { schemas } = body['components'] as { schemas: Record<string, { properties?: object }> };
    for (const [name, schema] of Object.entries(schemas)) assert.ok(schema.properties, `${name} has no fields`);
    const named = new Set(Object.keys(schemas));
    const refs = [...JSON.stringify(body).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name!);
    assert.ok(refs.length > 5);
    assert.deepEqual(refs.filter((name) => !named.has(name)), []); // prettier-ignore
  });

  for (const [name, route] of Object.entries<Route>(ROUTES)) {
    const streams = name === 'changes';
    it(`${name}: is there, and refuses what is wrong`, async () => {
      const { method, params, query, headers, body, takes } = route;
      const json = { 'content-type': 'application/json' };
      for (const wrong of params === undefined ? [] : WRONG_TEXTS.slice(1)) {
        const status = await send(
          method,
          filled(route, wrong),
          body === undefined ? {} : { body: '{}', headers: json },
        );
        // to take away what is not there is no error
        assert.ok(status >= 400 || name === 'undeploy', `${wrong}: ${status}`);
      }
      for (const wrong of body === undefined ? [] : WRONG_BODIES) {
        // a cancel may have no reason, so its body may be left out
        await send(method, filled(route, 'none'), { body: wrong, headers: json });
        await send(method, filled(route, 'none'), { body: wrong, headers: { 'content-type': 'text/plain' } });
      }
      for (const key of Object.keys(query?.shape ?? {})) {
        for (const wrong of WRONG_TEXTS) await send(method, `${filled(route, 'none')}?${key}=${wrong}`);
        await send(method, `${filled(route, 'none')}?${key}=a&${key}=b`);
      }
      for (const wrong of headers === undefined ? [] : ['x', '-', '1-', '9'.repeat(400)]) {
        if (streams && wrong.startsWith('9')) continue;
        assert.ok((await send(method, filled(route, 'none'), { headers: { 'last-event-id': wrong } })) >= 400);
      }
      if (takes !== undefined) assert.ok((await send(method, filled(route, 'a'.repeat(64)), { body: 'b' })) >= 400);
      if (params === undefined && body === undefined && !streams)
        assert.equal(await send(method, route.path), route.status);
    });
  }

  it('finds jobs by several labels, which all have to fit', async () => {
    const id = await rig.submit('m', { labels: { set: 'two', odd: '1' } });
    await rig.submit('m', { labels: { set: 'two', odd: '0' } });
    const { body } = await rig.ask<{ jobs: { id: string }[] }>('GET', '/api/jobs?label=set:two&label=odd:1');
    assert.deepEqual(
      body.jobs.map((job) => job.id),
      [id],
    );
  });
});
