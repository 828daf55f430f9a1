/** What the SDK asks the orchestrator for: artifacts, large results, models, lists, validation. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { error, type JobResult as ResultJson } from '@patchbay/protocol';
import { Patchbay, readSafetensors, tensor, writeSafetensors } from '../src/index.js';
import { JobResult } from '../src/results/job-result.js';
import { MODEL, ScriptedHttp, resultOf } from './support/scripted-stack.js';
import { thrown } from './support/thrown.js';

describe('over HTTP', () => {
  let http: ScriptedHttp;
  let pb: Patchbay;
  let folder: string;

  beforeEach(async () => {
    http = await ScriptedHttp.start();
    pb = new Patchbay({ httpUrl: http.url, redisUrl: 'redis://127.0.0.1:1', token: http.token });
    folder = mkdtempSync(join(tmpdir(), 'pb-sdk-'));
  });
  afterEach(async () => {
    await pb.close();
    await http.close();
    rmSync(folder, { recursive: true });
  });

  describe('artifacts', () => {
    it('uploads tensors once and gives the reference for a document', async () => {
      const tensors = { steering: tensor([[1, 2, 3]]) };
      const reference = await pb.artifacts.upload(tensors);
      assert.match(reference.artifact, /^sha256:[0-9a-f]{64}$/);
      assert.deepEqual(await pb.artifacts.upload(tensors), reference);
      assert.equal(http.requests.filter((request) => request.startsWith('PUT')).length, 1);
      const back = readSafetensors(await pb.artifacts.download(reference));
      assert.deepEqual(back.get('steering')?.toNested(), [[1, 2, 3]]);
    });

    it('streams files both ways', async () => {
      const content = Buffer.alloc(3_000_000, 'patchbay');
      writeFileSync(join(folder, 'in'), content);
      const { artifact } = await pb.artifacts.upload(join(folder, 'in'));
      await pb.artifacts.download(artifact, { to: join(folder, 'out') });
      assert.ok(readFileSync(join(folder, 'out')).equals(content));
      assert.deepEqual(readdirSync(folder).sort(), ['in', 'out'], 'no partial file is left');
    });

    it('tells how much of an upload is on its way, of bytes and of files', async () => {
      const content = Buffer.alloc(1_000_000, 'progress');
      writeFileSync(join(folder, 'in'), content);
      for (const what of [content, join(folder, 'in')]) {
        http.artifacts.clear();
        const told: [number, number][] = [];
        const onProgress = (sent: number, total: number): void => void told.push([sent, total]);
        await pb.artifacts.upload(what, { onProgress });
        assert.deepEqual(told.at(-1), [1_000_000, 1_000_000]);
        assert.ok(told.length >= 3 && told.every(([sent], at) => at === 0 || sent > told[at - 1]![0]), String(told));
        assert.deepEqual([...http.artifacts.values()], [content]);
        told.length = 0;
        await pb.artifacts.upload(what, { onProgress });
        assert.deepEqual(told, [[1_000_000, 1_000_000]], 'it is there already');
      }
      await assert.rejects(pb.artifacts.upload(join(folder, 'nowhere')), { code: 'ENOENT' });
    });

    it('refuses content with another hash, and leaves no file', async () => {
      const { sha256 } = http.put(Buffer.from('right'));
      http.artifacts.set(sha256, Buffer.from('wrong'));
      await thrown(() => pb.artifacts.download(sha256), 'PB_ARTIFACT_CORRUPT');
      await thrown(() => pb.artifacts.download(sha256, { to: join(folder, 'out') }), 'PB_ARTIFACT_CORRUPT');
      assert.deepEqual(readdirSync(folder), []);
    });

    it('an artifact that is missing, a wrong token, a folder that is missing', async () => {
      await thrown(() => pb.artifacts.download('0'.repeat(64)), 'PB_ARTIFACT_NOT_FOUND');
      const stranger = new Patchbay({ httpUrl: http.url, token: 'wrong' });
      await thrown(() => stranger.artifacts.upload(Buffer.from('x')), 'PB_UNAUTHORIZED');
      const { sha256 } = http.put(Buffer.from('x'));
      await assert.rejects(pb.artifacts.download(sha256, { to: join(folder, 'no/where') }), { code: 'ENOENT' });
    });
  });

  describe('large results', () => {
    const WIDE = 20_000;
    let json: ResultJson;

    beforeEach(() => {
      const activations = writeSafetensors({
        a: tensor(Float32Array.from({ length: WIDE }, (_, index) => index)),
        b: tensor([[1, 2]]),
        'c/bf16': tensor([1.5, -2], undefined, 'bfloat16'),
      });
      const capture = (name: string): object => ({ run: 'r', hook: 'h', module: name, call: 0, tensor: name });
      json = resultOf('j1', {
        activations: [capture('a'), capture('b')],
        saveCtx: { s: { tensor: 's' } },
        files: {
          'activations.safetensors': http.put(activations),
          'save_ctx.safetensors': http.put(writeSafetensors({ s: tensor([4, 5]) })),
          'logs.txt': http.put(Buffer.from('printed\n')),
        },
      }) as ResultJson;
    });

    const open = (eagerBytes: number): Promise<JobResult> =>
      JobResult.open(JSON.stringify(json), pb.artifacts, { eagerBytes });

    it('small files come with the result, of large ones a single tensor by a range', async () => {
      const result = await open(1_000);
      assert.deepEqual([...result.saveCtx.tensor('s').toFloat32()], [4, 5]);
      const problem = await thrown(() => result.activations({ module: 'b' })[0]!.tensor(), 'PB_TENSOR_NOT_LOADED');
      assert.match(problem.hint ?? '', /result\.tensor\("activations\.safetensors"/);
      http.requests.length = 0;
      assert.deepEqual((await result.activations({ module: 'b' })[0]!.load()).toNested(), [[1, 2]]);
      assert.deepEqual([...(await result.tensor('activations.safetensors', 'c/bf16')).toFloat32()], [1.5, -2]);
      const ranges = http.requests.map((request) => /bytes=(\d+)-(\d+)/.exec(request)!.slice(1).map(Number));
      assert.equal(ranges.length, 3, 'the header once, two tensors');
      assert.deepEqual(
        ranges.slice(1).map(([from, to]) => to! - from! + 1),
        [8, 4],
      );
      await thrown(() => result.tensor('activations.safetensors', 'nothing'), 'PB_TENSOR_NOT_FOUND');
    });

    it('everything comes with the result when it may', async () => {
      const result = await open(1_000_000);
      assert.equal(
        result
          .activations({ module: 'a' })[0]!
          .tensor()
          .at(WIDE - 1),
        WIDE - 1,
      );
    });

    it('a header longer than the first read', async () => {
      const many = Object.fromEntries(
        Array.from({ length: 2_000 }, (_, index) => [`a rather long name ${index}`, tensor([index])]),
      );
      json.files['activations.safetensors'] = http.put(writeSafetensors(many));
      const result = await open(10);
      assert.equal((await result.tensor('activations.safetensors', 'a rather long name 1234')).item(), 1234);
    });

    it('download writes every file and result.json', async () => {
      const result = await open(10);
      const out = join(folder, 'deep/out');
      const told: [number, number][] = [];
      await result.download(out, { onProgress: (arrived, total) => void told.push([arrived, total]) });
      const all = Object.values(result.files).reduce((sum, { bytes }) => sum + bytes, 0);
      assert.deepEqual(told.at(-1), [all, all], 'every byte is counted once');
      assert.ok(told.length >= 3 && told.every(([arrived], at) => at === 0 || arrived > told[at - 1]![0]));
      await result.download(out);
      assert.deepEqual(readdirSync(out).sort(), [
        'activations.safetensors',
        'logs.txt',
        'result.json',
        'save_ctx.safetensors',
      ]);
      assert.equal(readFileSync(join(out, 'logs.txt'), 'utf8'), 'printed\n');
      assert.equal((JSON.parse(readFileSync(join(out, 'result.json'), 'utf8')) as ResultJson).jobId, 'j1');
    });
  });

  describe('models', () => {
    const spec = { name: 'facts', model: '/models/facts', tp: 2, pp: 1, dp: 1, dtype: 'float32', replicas: 1 };
    const ready = { spec, status: 'ready', updatedAt: 1 };
    const lines = (...entries: object[]): string => entries.map((entry) => `${JSON.stringify(entry)}\n`).join('');

    it('deploy tells progress, then the deployment', async () => {
      const asked: unknown[] = [];
      const body = lines(
        { type: 'progress', phase: 'place', message: 'placing' },
        { type: 'progress', phase: 'load', message: 'läd', fraction: 0.5 },
        { type: 'ready', deployment: ready },
      );
      http.routes.set('POST /api/models', (text) => {
        asked.push(JSON.parse(text));
        return { status: 200, body };
      });
      const told: string[] = [];
      const fractions: unknown[] = [];
      const deploying = pb.models.deploy(
        { model: '/models/facts', tp: 2 },
        {
          onProgress: (message, { fraction }) => {
            told.push(message);
            fractions.push(fraction);
          },
        },
      );
      const iterated: string[] = [];
      for await (const { message } of deploying) iterated.push(message);
      assert.equal((await deploying).status, 'ready');
      assert.deepEqual(iterated, ['placing', 'läd']);
      assert.deepEqual(told, iterated);
      assert.deepEqual(fractions, [undefined, 0.5]);
      assert.deepEqual(asked, [{ model: '/models/facts', tp: 2, name: 'facts' }]);
    });

    it('a failed deployment throws its error, awaited and iterated', async () => {
      const problem = error('PB_NOT_DIVISIBLE', { field: 'heads', size: 8, tp: 3 });
      http.routes.set('POST /api/models', () => ({
        status: 200,
        body: lines({ type: 'progress', phase: 'p', message: 'm' }, { type: 'failed', error: problem }),
      }));
      await thrown(() => pb.models.deploy({ model: 'm' }), 'PB_NOT_DIVISIBLE');
      await thrown(async () => {
        for await (const _progress of pb.models.deploy({ model: 'm' }));
      }, 'PB_NOT_DIVISIBLE');
      http.routes.set('POST /api/models', () => ({
        status: 200,
        body: lines({ type: 'progress', phase: 'p', message: 'm' }),
      }));
      await thrown(() => pb.models.deploy({ model: 'm' }), 'PB_INTERNAL');
      http.routes.set('POST /api/models', () => ({
        status: 409,
        body: JSON.stringify(error('PB_MODEL_EXISTS', { model: 'm' })),
      }));
      await thrown(() => pb.models.deploy({ model: 'm' }), 'PB_MODEL_EXISTS');
    });

    it('list, get with near names, undeploy', async () => {
      http.routes.set('GET /api/models', () => ({ status: 200, body: JSON.stringify({ models: [ready] }) }));
      http.routes.set('DELETE /api/models/facts', () => ({ status: 200, body: '{"existed":true}' }));
      assert.deepEqual(
        (await pb.models.list()).map((model) => model.spec.name),
        ['facts'],
      );
      assert.equal((await pb.models.get('facts')).spec.tp, 2);
      assert.match((await thrown(() => pb.models.get('fact'), 'PB_MODEL_NOT_FOUND')).hint ?? '', /"facts"/);
      assert.deepEqual(await pb.models.undeploy('facts'), { existed: true });
    });
  });

  it('lists jobs by page or all of them, filtered', async () => {
    const status = (id: string): object => ({
      id,
      model: MODEL,
      state: 'queued',
      attempt: 0,
      labels: {},
      createdAt: 1,
      updatedAt: 1,
      transitions: [],
    });
    const queries: string[] = [];
    http.routes.set('GET /api/jobs', (_body, url) => {
      queries.push(url.search);
      const second = url.searchParams.get('cursor') === 'c';
      return {
        status: 200,
        body: JSON.stringify(second ? { jobs: [status('z')] } : { jobs: [status('a'), status('b')], nextCursor: 'c' }),
      };
    });
    const page = await pb.jobs.list({ state: 'queued', labels: { experiment: 'x y' }, limit: 2 });
    assert.deepEqual(
      page.jobs.map((job) => job.id),
      ['a', 'b'],
    );
    assert.equal(page.nextCursor, 'c');
    const ids: string[] = [];
    for await (const job of pb.jobs.list()) ids.push(job.id);
    assert.deepEqual(ids, ['a', 'b', 'z']);
    assert.deepEqual(queries, ['?state=queued&limit=2&label=experiment%3Ax+y', '', '?cursor=c']);
  });

  it('validate checks here first, then against the deployment', async () => {
    const spec = { model: MODEL, runs: [{ inputs: { text: ['a'] } }] };
    await thrown(() => pb.validate({ ...spec, runs: [] }), 'PB_DOCUMENT_INVALID');
    assert.deepEqual(http.requests, []);
    http.routes.set('POST /api/validate', (body) =>
      (JSON.parse(body) as { seed?: number }).seed === 1
        ? {
            status: 404,
            body: JSON.stringify(
              error('PB_HOOK_MODULE_NOT_FOUND', { model: MODEL, module: 'x' }, { path: 'hooks[0].moduleName' }),
            ),
          }
        : { status: 200, body: '{"warnings":["w"]}' },
    );
    assert.deepEqual(await pb.validate(spec), { warnings: ['w'] });
    assert.equal(
      (await thrown(() => pb.validate({ ...spec, seed: 1 }), 'PB_HOOK_MODULE_NOT_FOUND')).path,
      'hooks[0].moduleName',
    );
  });

  it('an answer of another version is told with its place', async () => {
    http.routes.set('GET /api/models', () => ({ status: 200, body: '{"models":[{"status":"sleeping"}]}' }));
    const problem = await thrown(() => pb.models.list(), 'PB_ORCHESTRATOR_UNAVAILABLE');
    assert.match(problem.message, /api\/models.*what this version does not know: models\[0\]/);
    http.routes.set('GET /api/models', () => ({ status: 200, body: '<html>' }));
    await thrown(() => pb.models.list(), 'PB_ORCHESTRATOR_UNAVAILABLE');
  });

  it('an orchestrator that is away, aborted, or something else that answers', async () => {
    const away = new Patchbay({ httpUrl: 'http://127.0.0.1:3', redisUrl: 'redis://127.0.0.1:1' });
    const problem = await thrown(() => away.models.list(), 'PB_ORCHESTRATOR_UNAVAILABLE');
    assert.match(problem.message, /ECONNREFUSED/);
    await thrown(() => pb.models.list({ signal: AbortSignal.abort() }), 'PB_ABORTED');
    http.routes.set('GET /api/models', () => ({ status: 502, body: '<html>bad gateway</html>' }));
    assert.match((await thrown(() => pb.models.list(), 'PB_ORCHESTRATOR_UNAVAILABLE')).message, /502 <html>/);
  });
});
