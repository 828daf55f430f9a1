/** The Lua scripts on a real Redis: idempotent submission, legal and fenced transitions, one terminal state. */
import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import {
  FINISHED_TTL_SECONDS,
  JOB_STATES,
  NEXT,
  beginCall,
  cancelCall,
  deleteCall,
  isTerminal,
  jobEvent,
  keys,
  parseJobDocument,
  readJobStatus,
  submission,
  submitCall,
  transitionCall,
  type ErrorJson,
  type JobState,
  type JobStatus,
  type TransitionStep,
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

  const verdict = async (answer: Promise<unknown>): Promise<string> => {
    const told = await answer;
    return String(Array.isArray(told) ? told[0] : told);
  };
  const submitAll = async (jobId: string, more: object = {}, submitter?: string): Promise<(string | number)[]> => {
    const job = submission(parseJobDocument({ ...SMALLEST, ...more }), jobId, { now: now++, submitter });
    return (await redis.eval(...submitCall(job))) as (string | number)[];
  };
  const submit = async (jobId: string, more: object = {}): Promise<string> => String((await submitAll(jobId, more))[0]);
  const begin = (jobId: string): Promise<string> => verdict(redis.eval(...beginCall(jobId, now++)));
  /** `placing` is the beginning of the next attempt, whatever number is given. */
  const move = (jobId: string, to: JobState, attempt: number, step: TransitionStep = {}): Promise<string> =>
    to === 'placing' ? begin(jobId) : verdict(redis.eval(...transitionCall(jobId, to, attempt, now++, step)));
  const cancel = (jobId: string, reason = 'enough'): Promise<string> =>
    verdict(redis.eval(...cancelCall(jobId, reason, now++)));
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
          const verdict = await move('a', to, attempt);
          assert.equal(verdict === 'ok', legal, String(verdict));
          assert.equal((await status('a')).state, legal ? to : from);
          if (isTerminal(from)) assert.equal(verdict, from, 'the state that stands is told');
        });
      }
    }

    it('only the current attempt can move a job', async () => {
      await bring('a', 'running');
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
      for (const key of [keys.job('a'), keys.events('a'), keys.end('a')]) {
        const ttl = await redis.ttl(key);
        assert.ok(ttl > FINISHED_TTL_SECONDS - 60 && ttl <= FINISHED_TTL_SECONDS, `${key} ${ttl}`);
      }
    });

    it('keeps the error in the record and in the event, with any text in it', async () => {
      await bring('a', 'running');
      const problem: ErrorJson = {
        code: 'PB_EDIT_FAILED',
        message: 'bad "quote" \\ \n {"}',
        retryable: false,
        remote: { type: 'E', line: 3 },
      };
      assert.equal(await move('a', 'failed', 1, { error: problem, reason: 'it said "no"\n' }), 'ok');
      assert.deepEqual((await status('a')).error, { ...problem, jobId: 'a' });
      const last = (await events('a')).at(-1) as { error: unknown; reason: string };
      assert.deepEqual(last.error, { ...problem, jobId: 'a' });
      assert.equal(last.reason, 'it said "no"\n');
      const ends = await redis.xrange(keys.end('a'), '-', '+');
      assert.deepEqual(
        ends.map(([, [, body]]) => jobEvent.parse(JSON.parse(body!))),
        [last],
      );
    });

    it('an unknown job is missing, and stays so', async () => {
      assert.equal(await move('nobody', 'placing', 1), 'missing');
      assert.equal(await cancel('nobody'), 'missing');
      assert.equal(await redis.exists(keys.job('nobody'), keys.events('nobody'), keys.end('nobody')), 0);
    });
  });

  describe('cancelling', () => {
    it('ends a queued job at once', async () => {
      await submit('a');
      assert.equal(await cancel('a'), 'cancelled');
      assert.equal(await move('a', 'placing', 1), 'cancelled', 'the consumer that takes it learns it');
      assert.deepEqual(
        (await events('a')).map((event) => (event as { reason?: string }).reason),
        [undefined, 'the job was cancelled: enough'],
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

  describe('what follows from states', () => {
    const share = (): Promise<Record<string, string>> => redis.hgetall(keys.share('m'));

    it('counts who waits and who runs, through every way out of a state', async () => {
      await submitAll('a', {}, 'ann');
      await submitAll('b', {}, 'ann');
      assert.deepEqual([(await share())['queued'], (await share())['q:ann']], ['2', '2']);
      await begin('a');
      assert.deepEqual([(await share())['q:ann'], await redis.hget(keys.running, 'ann')], ['1', '1']);
      await move('a', 'queued', 1);
      assert.deepEqual([(await share())['q:ann'], await redis.hget(keys.running, 'ann')], ['2', null]);
      await begin('a');
      await begin('a'); // whoever ran it vanished
      await move('a', 'running', 2 + 1);
      await move('a', 'completed', 3);
      await cancel('b');
      assert.deepEqual(Object.keys(await share()), [], 'nothing is left of a submitter without jobs');
      assert.equal(await redis.exists(keys.running), 0);
      assert.deepEqual([await redis.zcard(keys.open), await redis.zcard(keys.finished)], [0, 2]);
    });

    it('a job that does not run by its time expires', async () => {
      await submit('a', { limits: { startTimeoutMs: 100 } });
      assert.equal(await redis.zscore(keys.expiries, 'a'), String((await status('a')).expiresAt));
      now += 200;
      assert.equal(await begin('a'), 'expired');
      const { state, error, attempt } = await status('a');
      assert.deepEqual([state, error?.code, attempt], ['expired', 'PB_JOB_EXPIRED', 0]);
      assert.equal(await redis.zcard(keys.expiries), 0);
    });

    it('once it ran it does not expire any more, also in a later attempt', async () => {
      await submit('a', { limits: { startTimeoutMs: 100 } });
      await begin('a');
      await move('a', 'running', 1);
      assert.equal(await redis.zcard(keys.expiries), 0);
    });

    it('deletes what has ended, and only that', async () => {
      await bring('a', 'completed');
      assert.ok(Number(await redis.hget(keys.settings, 'storedBytes')) > 0);
      assert.equal(await verdict(redis.eval(...deleteCall('a'))), 'deleted');
      assert.equal(
        await redis.exists(keys.job('a'), keys.events('a'), keys.end('a'), keys.jobs, keys.finished, keys.sizes),
        0,
      );
      assert.equal(await redis.hget(keys.settings, 'storedBytes'), '0');
      assert.equal(await verdict(redis.eval(...deleteCall('a'))), 'missing');
      await submit('b');
      assert.equal(await verdict(redis.eval(...deleteCall('b'))), 'queued');
    });
  });

  describe('fair places', () => {
    const place = async (jobId: string, submitter: string, more: object = {}): Promise<number> =>
      Number((await submitAll(jobId, more, submitter))[2]);
    const grant = (submitter: string, policy: object): Promise<number> =>
      redis.hset(keys.submitters, submitter, JSON.stringify(policy));
    /** Submitters in the order in which their jobs are served. */
    async function order(jobs: readonly (readonly [submitter: string, more?: object])[]): Promise<string> {
      const placed = [];
      for (const [index, [submitter, more]] of jobs.entries())
        placed.push({ submitter, place: await place(`j${index}`, submitter, more), index });
      placed.sort((a, b) => a.place - b.place || a.index - b.index);
      return placed.map(({ submitter }) => submitter).join('');
    }

    it('one job stands behind one of each other submitter, not behind all of them', async () => {
      assert.equal(await order([['a'], ['a'], ['a'], ['b'], ['b'], ['c']]), 'abcaba');
    });

    it('a weight gives more turns per round', async () => {
      await grant('a', { weight: 2 });
      assert.equal(await order([['a'], ['a'], ['a'], ['a'], ['b'], ['b']]), 'aabaab');
    });

    it('who comes later starts now, not at the beginning', async () => {
      for (let index = 0; index < 5; index++) await place(`a${index}`, 'a');
      for (let index = 0; index < 3; index++) await begin(`a${index}`);
      const late = await place('b', 'b');
      assert.ok(late >= Number(await redis.hget(keys.job('a2'), 'place')));
      assert.ok(late <= Number(await redis.hget(keys.job('a3'), 'place')));
    });

    it('a higher priority goes before all places of a lower one', async () => {
      assert.equal(await order([['a'], ['b', { priority: -1 }], ['c', { priority: 2 }]]), 'cab');
    });

    it('refuses more than was granted, and says how much that is', async () => {
      await redis.hset(keys.settings, 'maxQueuedPerModel', 3);
      await grant('*', { maxQueued: 2, maxPriority: 0 });
      await place('a', 'a');
      await place('b', 'a');
      assert.deepEqual((await submitAll('c', {}, 'a')).slice(0, 1), ['full']);
      assert.deepEqual(await submitAll('d', { priority: 1 }, 'b'), ['priority', 0]);
      await place('e', 'b');
      assert.deepEqual(await submitAll('f', {}, 'c'), ['full', 'the queue of m', 3, 3]);
      assert.equal(await redis.exists(keys.job('c'), keys.job('d'), keys.job('f')), 0, 'nothing of them is left');
      assert.equal((await submitAll('a', {}, 'a'))[0], 'same', 'what is there is not refused');
    });

    it('refuses faster submissions than a minute allows, with the wait', async () => {
      await grant('a', { ratePerMinute: 2 });
      await place('a', 'a');
      await place('b', 'a');
      const [refused, wait, limit] = await submitAll('c', {}, 'a');
      assert.deepEqual([refused, limit], ['rate', 2]);
      assert.ok(Number(wait) > 0 && Number(wait) <= 30_000, String(wait));
      assert.equal((await submitAll('d', {}, 'b'))[0], 'created');
    });

    it('parks what may not run yet, and lets it go on with the end of another', async () => {
      await grant('a', { maxRunning: 1 });
      for (const id of ['a', 'b', 'c']) await place(id, 'a');
      assert.deepEqual([await begin('a'), await begin('b'), await begin('c')], ['ok', 'parked', 'parked']);
      await cancel('b');
      const answer = await redis.eval(...transitionCall('a', 'failed', 1, now++));
      assert.deepEqual(answer, ['ok', 'c'], 'a cancelled one does not take its turn');
      assert.equal(await begin('c'), 'ok');
    });
  });
});
