/** Submission, events, results and cancellation through a real Redis. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { keys, queueName, QUEUE_PREFIX, type JobEvent } from '@patchbay/protocol';
import { Queue } from 'bullmq';
import { HookFunction, Patchbay, tensor, writeSafetensors, type JobSpec } from '../src/index.js';
import { startRedis, type TestRedis } from '../../../tests/support/redis.js';
import { MODEL, ScriptedConsumer, completes, resultOf } from './support/scripted-stack.js';
import { thrown } from './support/thrown.js';

const spec: JobSpec = { model: MODEL, runs: [{ inputs: { text: ['The capital of France is'] } }] };

describe('jobs', () => {
  let server: TestRedis;
  let consumer: ScriptedConsumer;
  let pb: Patchbay;

  before(async () => {
    server = await startRedis();
    consumer = new ScriptedConsumer(server.url);
    await consumer.ready();
  });
  after(async () => {
    await consumer.close();
    await server.close();
  });
  beforeEach(() => {
    consumer.script = completes();
    pb = new Patchbay({ redisUrl: server.url });
  });
  afterEach(async () => {
    await pb.close();
    assert.deepEqual(consumer.problems.splice(0), []);
  });

  const clients = async (): Promise<string[]> =>
    ((await consumer.redis.client('LIST')) as string).split('\n').filter((line) => line.includes('name=patchbay-sdk'));

  it('gives the result of a job, again and again', async () => {
    consumer.script = completes({ runs: { 'run-0': { tokenIds: [[1, 2]] } }, timings: { totalMs: 3 } });
    for (let round = 0; round < 5; round++) {
      const job = await pb.jobs.submit(spec);
      const result = await job.result();
      assert.equal(result.jobId, job.id);
      assert.deepEqual(result.runs['run-0']?.tokenIds, [[1, 2]]);
    }
    assert.equal((await clients()).length, 2, 'one connection for commands, one that blocks');
  });

  it('writes the record before a consumer can see the job', async () => {
    const documents: unknown[] = [];
    consumer.script = async (step) => {
      documents.push(step.document);
      await completes()(step);
    };
    await (await pb.jobs.submit(spec)).result();
    await (await pb.jobs.submit(spec)).result(); // this one goes out in one tick
    assert.equal(documents.length, 2);
    assert.deepEqual(documents[0], documents[1]);
    assert.ok((documents[0] as { runs: { name: string }[] }).runs[0]?.name === 'run-0', 'with its defaults');
  });

  it('follows many jobs at once through one connection', async () => {
    consumer.script = async (step) => {
      await step.emit({ type: 'log', text: step.jobId });
      await completes()(step);
    };
    const jobs = await Promise.all(Array.from({ length: 40 }, () => pb.jobs.submit(spec)));
    const logs = await Promise.all(
      jobs.map(async (job) => {
        const texts: string[] = [];
        for await (const event of job.events()) if (event.type === 'log') texts.push(event.text);
        return texts;
      }),
    );
    assert.deepEqual(
      logs,
      jobs.map((job) => [job.id]),
    );
    await Promise.all(jobs.map((job) => job.result()));
    assert.equal((await clients()).length, 2);
  });

  it('follows a job that is submitted while another one is being awaited', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    consumer.script = async (step) => {
      if (step.jobId === 'slow') await held;
      await completes()(step);
    };
    const slow = await pb.jobs.submit(spec, { jobId: 'slow' });
    const waiting = slow.result();
    for (let round = 0; round < 3; round++) await (await pb.jobs.submit(spec)).result({ timeoutMs: 2_000 });
    release();
    assert.equal((await waiting).jobId, 'slow');
  });

  it('an entry sent ahead of its place is put right, and goes when the job is refused', async () => {
    const model = 'nobody-takes';
    await consumer.redis.hset(keys.deployments, model, '{}');
    await consumer.redis.hset(keys.settings, 'maxQueuedPerModel', 3);
    const queue = new Queue(queueName(model), { connection: consumer.redis, prefix: QUEUE_PREFIX });
    try {
      for (let index = 0; index < 3; index++) await pb.jobs.submit({ ...spec, model });
      await assert.rejects(pb.jobs.submit({ ...spec, model }), { code: 'PB_QUEUE_FULL' });
      const entries = await queue.getJobs(['waiting', 'prioritized']);
      const places = await Promise.all(entries.map(({ id }) => consumer.redis.hget(keys.job(id!), 'place')));
      assert.equal(new Set(places).size, 3, 'each behind the other');
      assert.deepEqual(
        entries.map(({ priority }) => String(priority)),
        places,
      );
    } finally {
      await queue.close();
      await consumer.redis.hdel(keys.settings, 'maxQueuedPerModel');
    }
  });

  it('events come in order and resume after a cursor, in another client too', async () => {
    consumer.script = async (step) => {
      await step.to('running');
      for (const text of ['a', 'b', 'c']) await step.emit({ type: 'log', text });
      await step.to('completed', { result: resultOf(step.jobId) });
    };
    const job = await pb.jobs.submit(spec);
    const all: JobEvent[] = [];
    for await (const event of job.events()) all.push(event);
    const names = all.map((event) =>
      event.type === 'state' ? event.state : event.type === 'log' ? event.text : event.type,
    );
    assert.deepEqual(names, ['queued', 'placing', 'running', 'a', 'b', 'c', 'completed']);
    await using other = new Patchbay({ redisUrl: server.url });
    const rest: JobEvent[] = [];
    for await (const event of other.jobs.get(job.id).events({ after: all[3]!.cursor })) rest.push(event);
    assert.deepEqual(rest, all.slice(4));
    const after: JobEvent[] = [];
    for await (const event of other.jobs.get(job.id).events({ after: all.at(-1)!.cursor })) after.push(event);
    assert.deepEqual(after, [], 'the job has ended: no wait');
  });

  it('who waits for the end reads nothing else, and can have the events all the same, before and after', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    consumer.script = async (step) => {
      await step.to('running');
      for (let index = 0; index < 20; index++) await step.emit({ type: 'log', text: `${index}` });
      await held;
      await step.to('completed', { result: resultOf(step.jobId) });
    };
    const reads = async (): Promise<number> =>
      Number(/cmdstat_xread:calls=(\d+)/.exec(await consumer.redis.info('commandstats'))?.[1] ?? 0);
    const count = async (events: AsyncIterable<JobEvent>): Promise<number> => {
      let found = 0;
      for await (const _ of events) found++;
      return found;
    };
    const before = await reads();
    const job = await pb.jobs.submit(spec);
    const first = job.result();
    while ((await consumer.redis.xlen(keys.events(job.id))) < 23) await sleep(2);
    assert.equal(await reads(), before + 1);
    const during = count(job.events());
    await sleep(20); // it has joined the read
    release();
    assert.equal((await first).json.state, 'completed');
    assert.equal(await during, 24);
    assert.equal(await count(job.events()), 24);

    const again = await pb.jobs.submit(spec);
    await again.result();
    assert.equal(await count(again.events()), 24, 'only its end was known');
    assert.equal((await again.result()).json.state, 'completed');
  });

  it('a job that ended under a version without that entry gives its result and its error', async () => {
    const ended = async (script: typeof consumer.script, name: string): Promise<void> => {
      consumer.script = script;
      await (await pb.jobs.submit(spec, { jobId: name })).result().catch(() => undefined);
      await consumer.redis.del(keys.end(name));
    };
    await ended(completes({ runs: { 'run-0': { tokenIds: [[7]] } } }), 'old-good');
    await ended(async ({ to }) => {
      await to('running');
      await to('failed', { reason: 'why', error: { code: 'PB_MEMORY', message: 'why', retryable: false } });
    }, 'old-bad');
    for (const again of [pb.jobs.get('old-good'), await pb.jobs.submit(spec, { jobId: 'old-good' })])
      for (let round = 0; round < 2; round++)
        assert.deepEqual((await again.result({ timeoutMs: 5_000 })).runs['run-0']?.tokenIds, [[7]]);
    await thrown(() => pb.jobs.get('old-bad').result({ timeoutMs: 5_000 }), 'PB_MEMORY');
  });

  it('break stops following and leaves the job alone; follow: false tells what is there', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    consumer.script = async (step) => {
      await step.to('running');
      await held;
      await step.to('completed', { result: resultOf(step.jobId) });
    };
    const job = await pb.jobs.submit(spec);
    for await (const event of job.events()) if (event.type === 'state' && event.state === 'running') break;
    const now: string[] = [];
    for await (const event of job.events({ follow: false }))
      now.push(event.type === 'state' ? event.state : event.type);
    assert.deepEqual(now, ['queued', 'placing', 'running']);
    release();
    assert.equal((await job.result()).json.state, 'completed');
  });

  it('reads inline files: save_ctx, activations, logits', async () => {
    const inline = (file: Uint8Array): object => ({
      sha256: 'x',
      bytes: file.byteLength,
      inline: Buffer.from(file).toString('base64'),
    });
    consumer.script = completes({
      runs: { clean: { logits: { tensor: 'clean/logits', file: 'outputs.safetensors' } } },
      saveCtx: { s: { tensor: 's' }, note: { deep: [1] } },
      activations: [
        {
          run: 'clean',
          hook: 'resid',
          module: 'model.layers.0',
          call: 0,
          tensor: 'clean/resid/model.layers.0/0',
          shape: [1, 2],
          dtype: 'float32',
        },
        { run: 'clean', hook: 'other', module: 'model.layers.1', call: 0, missing: 'PB_WHERE_EMPTY' },
      ],
      files: {
        'save_ctx.safetensors': inline(writeSafetensors({ s: tensor([[1, 2, 3]], undefined, 'bfloat16') })),
        'outputs.safetensors': inline(writeSafetensors({ 'clean/logits': tensor([[0.5, 0.25]]) })),
        'activations.safetensors': inline(writeSafetensors({ 'clean/resid/model.layers.0/0': tensor([[7, 8]]) })),
        'logs.txt': inline(Buffer.from('hello\n')),
      },
    });
    const result = await (await pb.jobs.submit(spec)).result();
    assert.deepEqual([...result.saveCtx.tensor('s').toFloat32()], [1, 2, 3]);
    assert.deepEqual(result.saveCtx.get('note'), { deep: [1] });
    assert.deepEqual(result.saveCtx.names, ['s', 'note']);
    assert.match(
      (await thrown(() => result.saveCtx.tensor('ss'), 'PB_TENSOR_NOT_FOUND')).hint ?? '',
      /save_ctx has: s/,
    );
    assert.deepEqual([...result.logits('clean').toFloat32()], [0.5, 0.25]);
    const [resid, ...more] = result.activations({ hook: 'resid', run: 'clean' });
    assert.deepEqual(more, []);
    assert.deepEqual(resid!.tensor().toNested(), [[7, 8]]);
    const missing = result.activations({ hook: 'other' })[0]!;
    assert.match((await thrown(() => missing.tensor(), 'PB_TENSOR_NOT_FOUND')).hint ?? '', /PB_WHERE_EMPTY/);
    assert.equal(Buffer.from(await result.file('logs.txt')).toString(), 'hello\n');
    assert.deepEqual(
      result
        .tensors()
        .map(({ name }) => name)
        .sort(),
      ['clean/logits', 'clean/resid/model.layers.0/0', 's'],
    );
  });

  it('throws the error of the job with the line of the edit and the job id', async () => {
    const failure = {
      code: 'PB_EDIT_FAILED',
      message: 'boom',
      path: 'hooks[0].edit',
      retryable: false,
      remote: { type: 'ValueError', traceback: 'line 3', line: 3 },
    } as const;
    consumer.script = async ({ to }) => {
      await to('running');
      await to('failed', { error: failure });
    };
    const job = await pb.jobs.submit(spec);
    const problem = await thrown(() => job.result(), 'PB_EDIT_FAILED');
    assert.equal(problem.remote?.line, 3);
    assert.equal(problem.jobId, job.id);
    assert.equal(problem.path, 'hooks[0].edit');
    assert.equal((await job.status()).error?.code, 'PB_EDIT_FAILED');
    await thrown(() => pb.jobs.get(job.id).result(), 'PB_EDIT_FAILED');
  });

  it('the same id and document give the first job, another document is refused', async () => {
    const first = await pb.jobs.submit(spec, { jobId: 'twice' });
    await first.result();
    const again = await pb.jobs.submit(spec, { jobId: 'twice' });
    assert.equal((await again.result()).jobId, 'twice');
    assert.equal(consumer.seen.filter((id) => id === 'twice').length <= 2, true);
    assert.equal((await again.status()).attempt, 1, 'it ran once');
    const other = await thrown(() => pb.jobs.submit({ ...spec, seed: 7 }, { jobId: 'twice' }), 'PB_JOB_ID_CONFLICT');
    assert.equal(other.jobId, 'twice');
    await thrown(() => pb.jobs.submit({ ...spec, jobId: 'a' }, { jobId: 'b' }), 'PB_DOCUMENT_INVALID');
    assert.equal(
      (await (await pb.jobs.submit(spec, { jobId: '42' })).result()).jobId,
      '42',
      'BullMQ itself refuses such ids',
    );
  });

  it('an unknown model is refused, with near names, and leaves no job behind', async () => {
    await (await pb.jobs.submit(spec)).result();
    const problem = await thrown(() => pb.jobs.submit({ ...spec, model: 'scriptd' }), 'PB_MODEL_NOT_FOUND');
    assert.match(problem.hint ?? '', /"scripted"/);
    assert.equal(problem.path, 'model');
    await consumer.redis.hdel(keys.deployments, MODEL);
    try {
      await thrown(() => pb.jobs.submit(spec), 'PB_MODEL_NOT_FOUND'); // its add was on the way already
      assert.equal(await consumer.redis.exists(`${QUEUE_PREFIX}:${queueName(MODEL)}:wait`), 0);
      assert.deepEqual(await consumer.redis.keys(`${QUEUE_PREFIX}:${queueName('scriptd')}*`), []);
    } finally {
      await consumer.redis.hset(keys.deployments, MODEL, '{}');
    }
  });

  it('cancels: a running job ends with the reason, a finished one stays as it is', async () => {
    consumer.script = async (step) => {
      await step.to('running');
      await step.to('cancelled', { reason: await step.cancelled() });
    };
    const job = await pb.jobs.submit(spec);
    const waiting = thrown(() => job.result(), 'PB_JOB_CANCELLED');
    for await (const event of job.events()) if (event.type === 'state' && event.state === 'running') break;
    const status = await pb.jobs.get(job.id).cancel({ reason: 'enough' });
    assert.equal(status.cancelRequested, 'enough');
    assert.match((await waiting).message, /enough/);
    assert.equal((await job.cancel()).state, 'cancelled');
    await thrown(() => pb.jobs.cancel('nobody'), 'PB_JOB_NOT_FOUND');
  });

  it('timeouts and aborts end the wait, not the job; cancelOnAbort ends both', async () => {
    consumer.script = async (step) => {
      await step.to('running');
      await step.to('cancelled', { reason: await step.cancelled() });
    };
    const job = await pb.jobs.submit(spec);
    assert.equal((await thrown(() => job.result({ timeoutMs: 30 }), 'PB_WAIT_TIMEOUT')).jobId, job.id);
    const stop = new AbortController();
    const waiting = thrown(() => job.result({ signal: stop.signal }), 'PB_ABORTED');
    const iterating = thrown(async () => {
      for await (const _event of job.events({ signal: stop.signal }));
    }, 'PB_ABORTED');
    stop.abort(new Error('mine'));
    assert.equal(((await waiting).cause as Error).message, 'mine');
    await iterating;
    assert.equal((await job.status()).state, 'running');
    await thrown(() => job.result({ signal: AbortSignal.abort(), cancelOnAbort: true }), 'PB_ABORTED');
    await thrown(() => job.result(), 'PB_JOB_CANCELLED');
    await thrown(() => pb.jobs.submit(spec, { signal: AbortSignal.abort() }), 'PB_ABORTED');
  });

  it('a hook object belongs to one job', async () => {
    const hook = new HookFunction({ moduleName: 'model.layers.0' });
    const bad = { ...spec, model: 'nowhere', runs: [{ inputs: { text: ['a'] }, hooks: [hook] }] };
    await thrown(() => pb.jobs.submit(bad), 'PB_MODEL_NOT_FOUND');
    const good = { ...bad, model: MODEL };
    await pb.jobs.submit(good, { jobId: 'hooked' });
    await pb.jobs.submit(good, { jobId: 'hooked' });
    const problem = await thrown(() => pb.jobs.submit(good), 'PB_HOOK_REUSED');
    assert.equal(problem.jobId, 'hooked');
  });

  it('an unknown job is told at once', async () => {
    const job = pb.jobs.get('nobody');
    await thrown(() => job.status(), 'PB_JOB_NOT_FOUND');
    await thrown(() => job.result(), 'PB_JOB_NOT_FOUND');
    await thrown(async () => {
      for await (const _event of job.events());
    }, 'PB_JOB_NOT_FOUND');
  });

  it('close ends the waits and can be called twice', async () => {
    consumer.script = async (step) => {
      await step.to('running');
      await step.cancelled();
      await step.to('cancelled');
    };
    const job = await pb.jobs.submit(spec);
    const waiting = thrown(() => job.result(), 'PB_ABORTED');
    await pb.close();
    await pb.close();
    await waiting;
    await thrown(() => pb.jobs.submit(spec), 'PB_ABORTED');
    await using other = new Patchbay({ redisUrl: server.url });
    await other.jobs.cancel(job.id);
    await thrown(() => other.jobs.get(job.id).result(), 'PB_JOB_CANCELLED');
  });
});
