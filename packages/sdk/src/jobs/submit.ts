/** Puts a checked document into Redis: its record and its entry in the deployment's BullMQ queue, in one tick. @module */
import {
  QUEUE_JOB_NAME,
  QUEUE_PREFIX,
  SUBMIT_LUA,
  error,
  keys,
  nearest,
  queueJobId,
  queueJobOptions,
  queueName,
  type Submission,
} from '@patchbay/protocol';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { RedisConnection } from '../transport/redis-connection.js';

type Verdict = 'created' | 'same' | 'conflict' | 'no-model';

export class Submitter {
  /** Queues belong to one connection; when it is lost they go with it. */
  readonly #queues = new WeakMap<Redis, Map<string, Queue>>();
  /** Models that took a job before: their submissions need not wait for the verdict. */
  readonly #known = new Set<string>();

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
   * Safe to repeat with the same submission.
   * @param isNewId - the id was just made, so it cannot be another job's
   * @throws `PB_JOB_ID_CONFLICT`, `PB_MODEL_NOT_FOUND`, `PB_REDIS_UNAVAILABLE`
   */
  async send(queue: Queue, job: Submission, isNewId: boolean): Promise<void> {
    const client = this.redis.ready;
    if (client === undefined) throw this.redis.unavailable(new Error('the connection was lost'));
    try {
      // EVAL, not EVALSHA: its fallback for an unknown script would come after the add, and a consumer would find no record.
      const record = client.eval(SUBMIT_LUA, job.keys.length, ...job.keys, ...job.args) as Promise<Verdict>;
      const add = (): Promise<unknown> => queue.add(QUEUE_JOB_NAME, { jobId: job.jobId }, queueJobOptions(job.jobId));
      const early = isNewId && this.#known.has(job.model) ? add() : undefined;
      early?.catch(() => undefined); // awaited below, unless the record fails first
      const verdict = await record;
      if (verdict === 'created' || verdict === 'same') await (early ?? add());
      else await this.#refuse(client, queue, job, verdict, early);
      this.#known.add(job.model);
    } catch (cause) {
      throw this.redis.failed(client, cause);
    }
  }

  async #refuse(
    client: Redis,
    queue: Queue,
    job: Submission,
    verdict: Verdict,
    early: Promise<unknown> | undefined,
  ): Promise<never> {
    const { jobId, model } = job;
    if (verdict === 'conflict') throw error('PB_JOB_ID_CONFLICT', { jobId }, { jobId, path: 'jobId' });
    this.#known.delete(model);
    if (early !== undefined) await early.then(() => queue.remove(queueJobId(jobId)));
    const near = nearest(model, await client.hkeys(keys.deployments));
    const hint = near.length === 0 ? {} : { hint: `Did you mean ${near.map((name) => `"${name}"`).join(' or ')}?` };
    throw error('PB_MODEL_NOT_FOUND', { model }, { path: 'model', ...hint });
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
