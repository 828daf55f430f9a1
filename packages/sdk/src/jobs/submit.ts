/** Puts a checked document into Redis: its record and its entry in the deployment's BullMQ queue, in one tick where it can. @module */
import {
  QUEUE_JOB_NAME,
  QUEUE_PREFIX,
  error,
  functionCall,
  isPatchbayError,
  keys,
  lacksFunction,
  nearest,
  queueJobId,
  queueJobOptions,
  queueName,
  readSubmitVerdict,
  submitCall,
  type JobState,
  type Submission,
} from '@patchbay/protocol';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { RedisConnection } from '../transport/redis-connection.js';

/** Does nothing when the job has an entry. */
const enter = async (queue: Queue, { jobId }: Submission, place: number): Promise<unknown> =>
  queue.add(QUEUE_JOB_NAME, { jobId }, queueJobOptions(jobId, place));

/** Does nothing when a consumer has the job. */
const leave = async (queue: Queue, { jobId }: Submission): Promise<unknown> => queue.remove(queueJobId(jobId));

export class Submitter {
  /** Queues belong to one connection; when it is lost they go with it. */
  readonly #queues = new WeakMap<Redis, Map<string, Queue>>();
  /** Where the last job of a kind stood. While nothing else waits the next one stands there too. */
  readonly #places = new Map<string, number>();
  #underWay = 0;
  /** Whether a connection's Redis has submissions as a function: one is tried first. */
  readonly #hasFunctions = new WeakMap<Redis, boolean>();

  constructor(private readonly redis: RedisConnection) {}

  /** Opens what a submission to the model needs, so that `send` writes in the same tick. */
  async prepare(model: string): Promise<Queue> {
    const client = await this.redis.open();
    const queue = this.#queue(client, model);
    try {
      await queue.waitUntilReady();
    } catch (cause) {
      throw this.redis.failed(client, cause);
    }
    return queue;
  }

  /**
   * Safe to repeat with the same submission. Resolves to the state of the job, which another one of the id may have begun.
   * @param fresh - nobody else can have used the id
   * @throws the refusals of `readSubmitVerdict`, `PB_REDIS_UNAVAILABLE`
   */
  async send(queue: Queue, job: Submission, fresh: boolean): Promise<JobState> {
    const client = this.redis.ready;
    if (client === undefined) throw this.redis.unavailable(new Error('the connection was lost'));
    const kind = `${job.model} ${job.submitter} ${job.priority}`;
    // many at once move each other's places, and what may have to be said twice is not followed by an entry
    const sure = fresh && this.#underWay === 0 && this.#hasFunctions.has(client);
    const guess = sure ? this.#places.get(kind) : undefined;
    this.#underWay++;
    try {
      // the record first: whoever finds an entry finds its record
      const [answer] = await Promise.all([
        this.#register(client, job),
        guess !== undefined && enter(queue, job, guess),
      ]);
      const { state, place } = readSubmitVerdict(job, answer);
      this.#places.set(kind, place);
      if (state !== 'queued' || place === guess) return state;
      if (guess !== undefined) await leave(queue, job);
      await enter(queue, job, place);
      return state;
    } catch (cause) {
      // a consumer that was faster found no record and forgot the entry
      if (guess !== undefined && isPatchbayError(cause)) await leave(queue, job).catch(() => undefined);
      if (isPatchbayError(cause, 'PB_MODEL_NOT_FOUND')) throw await this.#withNearNames(client, job.model);
      throw this.redis.failed(client, cause);
    } finally {
      this.#underWay--;
    }
  }

  /** By the function that an orchestrator has loaded, or where there is none by the script itself. */
  async #register(client: Redis, job: Submission): Promise<unknown> {
    const call = submitCall(job);
    const asFunction = this.#hasFunctions.get(client) === false ? undefined : functionCall(call);
    if (asFunction === undefined) return client.eval(...call);
    try {
      const answer = await client.fcall(...asFunction);
      this.#hasFunctions.set(client, true);
      return answer;
    } catch (cause) {
      if (!lacksFunction(cause)) throw cause;
      const known = this.#hasFunctions.has(client);
      this.#hasFunctions.set(client, false);
      if (known) throw this.redis.unavailable(cause); // lost just now, and the entry may be there already: all of it again
      return client.eval(...call);
    }
  }

  async #withNearNames(client: Redis, model: string): Promise<Error> {
    const near = nearest(model, await client.hkeys(keys.deployments));
    const hint = near.length === 0 ? {} : { hint: `Did you mean ${near.map((name) => `"${name}"`).join(' or ')}?` };
    return error('PB_MODEL_NOT_FOUND', { model }, { path: 'model', ...hint });
  }

  #queue(client: Redis, model: string): Queue {
    const queues = this.#queues.get(client) ?? new Map<string, Queue>();
    this.#queues.set(client, queues);
    let queue = queues.get(model);
    if (queue === undefined) {
      const options = { connection: client, prefix: QUEUE_PREFIX, skipVersionCheck: true, skipMetasUpdate: true };
      queue = new Queue(queueName(model), options);
      queue.on('error', () => undefined); // every call has its own error; BullMQ wants a listener
      queues.set(model, queue);
    }
    return queue;
  }
}
