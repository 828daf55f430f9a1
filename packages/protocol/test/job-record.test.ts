/** The Lua scripts on a real Redis: idempotent submission, legal and fenced transitions, one terminal state. */
import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import {
  CANCEL_LUA,
  FINISHED_TTL_SECONDS,
  JOB_STATES,
  NEXT,
  SUBMIT_LUA,
  TRANSITION_LUA,
  isTerminal,
  jobEvent,
  keys,
  parseJobDocument,
  readJobStatus,
  submission,
  type JobState,
  type JobStatus,
} from '../src/index.js';
import { startRedis, type TestRedis } from '../../../tests/support/redis.js';
import { SMALLEST } from './support/documents.js';

describe('job records', () => {
  let server: TestRedis;
  let redis: Redis;
  let now: number;

  before(async () => {
    server = await startRedis();
    redis = new Redis(server.url.replace('unix://', ''));
  });
  after(async () => {
    redis.disconnect();
    await server.close();
  });
  beforeEach(async () => {
    await redis.flushall();
    await redis.hset(keys.deployments, 'm', '{}');
    now = 1_000;
  });

  const submit = (jobId: string, more: object = {}): Promise<unknown> => {
    const job = submission(parseJobDocument({ ...SMALLEST, ...more }), jobId, now++);
    return redis.eval(SUBMIT_LUA, job.keys.length, ...job.keys, ...job.args);
  };
  const move = (
    jobId: string,
    to: JobState,
    attempt: number,
    more: { reason?: string; result?: string; error?: string } = {},
  ): Promise<unknown> =>
    redis.eval(
      TRANSITION_LUA,
      3,
      keys.job(jobId),
      keys.events(jobId),
      keys.jobs,
      to,
      attempt,
      now++,
      more.reason ?? '',
      more.result ?? '',
      more.error ?? '',
      jobId,
    );
  const cancel = (jobId: string, reason = 'enough'): Promise<unknown> =>
    redis.eval(CANCEL_LUA, 2, keys.job(jobId), keys.events(jobId), jobId, reason, now++, keys.cancelChannel);
  const status = async (jobId: string): Promise<JobStatus> =>
    readJobStatus(jobId, await redis.hgetall(keys.job(jobId)))!;
  const events = async (jobId: string): Promise<unknown[]> =>
    (await redis.xrange(keys.events(jobId), '-', '+')).map(([, [, body]]) => jobEvent.parse(JSON.parse(body!)));
  const states = async (jobId: string): Promise<string[]> =>
    (await events(jobId)).map((event) => (event as { state: string }).state);

  /** Brings a job into a state by legal steps, in attempt 1 (0 while it has none). */
  async function bring(jobId: string, state: JobState): Promise<number> {
    await submit(jobId);
    const early: Partial<Record<JobState, JobState[]>> = { queued: [], placing: ['placing'] };
    const steps = early[state] ?? (['placing', 'running', ...(state === 'running' ? [] : [state])] as const);
    for (const step of steps) assert.equal(await move(jobId, step, 1), 'ok', `${jobId}: ${step}`);
    return steps.length === 0 ? 0 : 1;
  }

  describe('submission', () => {
    it('registers a job once', async () => {
      assert.equal(await submit('a', { labels: { x: 'y' } }), 'created');
      assert.equal(await submit('a', { labels: { x: 'y' } }), 'same');
      assert.equal(
        await submit('a', { labels: { x: 'y' }, seed: 0 }),
        'same',
        'a default that is written is no difference',
      );
      assert.equal(await submit('a', { jobId: 'a', labels: { x: 'y' } }), 'same', 'nor is the id in the document');
      assert.equal(await submit('a'), 'conflict');
      const { state, attempt, labels, createdAt, model } = await status('a');
      assert.deepEqual(
        { state, attempt, labels, createdAt, model },
        { state: 'queued', attempt: 0, labels: { x: 'y' }, createdAt: 1_000, model: 'm' },
      );
      assert.deepEqual(await states('a'), ['queued']);
      assert.deepEqual(await redis.zrange(keys.jobs, '0', '-1'), ['a']);
    });

    it('leaves nothing behind for a model that is not deployed', async () => {
      assert.equal(await submit('a', { model: 'other' }), 'no-model');
      assert.deepEqual((await redis.keys('*')).sort(), [keys.deployments]);
    });

    it('the same id is the same job also after it has ended', async () => {
      await bring('a', 'completed');
      assert.equal(await submit('a'), 'same');
      assert.equal((await status('a')).state, 'completed');
    });

    it('one of many at the same time makes the job', async () => {
      const verdicts = await Promise.all(Array.from({ length: 20 }, () => submit('a')));
      assert.equal(verdicts.filter((verdict) => verdict === 'created').length, 1);
      assert.deepEqual(await states('a'), ['queued']);
    });
  });

  describe('transitions', () => {
    for (const from of JOB_STATES) {
      for (const to of JOB_STATES) {
        const next: readonly JobState[] = NEXT[from];
        // A new attempt may start from every state that has not ended: the worker of the one before was lost.
        const legal = to === 'placing' ? !isTerminal(from) : next.includes(to);
        it(`${from} -> ${to}: ${legal ? 'ok' : 'refused'}`, async () => {
          const attempt = await bring('a', from);
          const verdict = await move('a', to, to === 'placing' ? attempt + 1 : attempt);
          assert.equal(verdict === 'ok', legal, String(verdict));
          assert.equal((await status('a')).state, legal ? to : from);
          if (isTerminal(from)) assert.equal(verdict, from, 'the state that stands is told');
        });
      }
    }

    it('only the current attempt can move a job', async () => {
      await bring('a', 'running');
      assert.equal(await move('a', 'placing', 1), 'stale', 'an attempt starts once');
      assert.equal(await move('a', 'placing', 2), 'ok');
      assert.equal(await move('a', 'completed', 1, { result: '{}' }), 'stale');
      assert.equal(await redis.hget(keys.job('a'), 'result'), null, 'nothing of a stale attempt is kept');
      assert.equal(await move('a', 'running', 2), 'ok');
      assert.equal(await move('a', 'completed', 2, { result: '{"x":1}' }), 'ok');
      assert.equal(await redis.hget(keys.job('a'), 'result'), '{"x":1}');
      assert.deepEqual(await states('a'), [
        'queued',
        'placing',
        'running',
        'queued',
        'placing',
        'running',
        'completed',
      ]);
      assert.deepEqual(
        (await status('a')).transitions.map(({ attempt }) => attempt),
        [0, 1, 1, 1, 2, 2, 2],
      );
    });

    it('one of several ends wins, and it lasts', async () => {
      await bring('a', 'running');
      const verdicts = await Promise.all([
        move('a', 'completed', 1),
        move('a', 'failed', 1),
        move('a', 'cancelled', 1),
        move('a', 'expired', 1),
      ]);
      assert.equal(verdicts.filter((verdict) => verdict === 'ok').length, 1);
      assert.equal((await states('a')).length, 4);
      for (const key of [keys.job('a'), keys.events('a')]) {
        const ttl = await redis.ttl(key);
        assert.ok(ttl > FINISHED_TTL_SECONDS - 60 && ttl <= FINISHED_TTL_SECONDS, `${key} ${ttl}`);
      }
    });

    it('keeps the error in the record and in the event, with any text in it', async () => {
      await bring('a', 'running');
      const problem = {
        code: 'PB_EDIT_FAILED',
        message: 'bad "quote" \\ \n {"}',
        retryable: false,
        remote: { type: 'E', line: 3 },
      };
      assert.equal(await move('a', 'failed', 1, { error: JSON.stringify(problem), reason: 'it said "no"\n' }), 'ok');
      assert.deepEqual((await status('a')).error, problem);
      const last = (await events('a')).at(-1) as { error: unknown; reason: string };
      assert.deepEqual(last.error, problem);
      assert.equal(last.reason, 'it said "no"\n');
    });

    it('an unknown job is missing, and stays so', async () => {
      assert.equal(await move('nobody', 'placing', 1), 'missing');
      assert.equal(await cancel('nobody'), 'missing');
      assert.equal(await redis.exists(keys.job('nobody'), keys.events('nobody')), 0);
    });

    it('the list forgets jobs whose records have gone', async () => {
      await submit('old');
      now += FINISHED_TTL_SECONDS * 1_000;
      await bring('new', 'completed');
      assert.deepEqual(await redis.zrange(keys.jobs, '0', '-1'), ['new']);
    });
  });

  describe('cancelling', () => {
    it('ends a queued job at once', async () => {
      await submit('a');
      assert.equal(await cancel('a'), 'cancelled');
      assert.equal(await move('a', 'placing', 1), 'cancelled', 'the consumer that takes it learns it');
      assert.deepEqual(
        (await events('a')).map((event) => (event as { reason?: string }).reason),
        [undefined, 'enough'],
      );
      assert.ok((await redis.ttl(keys.job('a'))) > 0);
    });

    it('asks for the end of a running one: a flag and a message', async () => {
      await bring('a', 'running');
      const subscriber = redis.duplicate();
      const message = new Promise<string>((resolve) => subscriber.on('message', (_channel, text) => resolve(text)));
      await subscriber.subscribe(keys.cancelChannel);
      assert.equal(await cancel('a', 'why "so"'), 'running');
      assert.deepEqual(JSON.parse(await message), { jobId: 'a', reason: 'why "so"' });
      subscriber.disconnect();
      assert.equal((await status('a')).cancelRequested, 'why "so"');
      assert.equal(await move('a', 'cancelled', 1), 'ok');
    });

    it('changes nothing of a job that has ended', async () => {
      await bring('a', 'completed');
      assert.equal(await cancel('a'), 'completed');
      assert.equal((await status('a')).cancelRequested, undefined);
    });
  });
});
