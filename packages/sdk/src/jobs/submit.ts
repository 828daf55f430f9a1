/** Puts a checked document into Redis: its record and its entry in the deployment's BullMQ queue, in one tick. @module */
import {
  QUEUE_JOB_NAME,
  QUEUE_PREFIX,
  error,
  isPatchbayError,
  keys,
  nearest,
  queueJobOptions,
  queueName,
  readSubmitVerdict,
  submitCall,
  type Submission,
} from '@patchbay/protocol';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { RedisConnection } from '../transport/redis-connection.js';

export class Submitter {
  /** Queues belong to one connection; when it is lost they go with it. */
  readonly #queues = new WeakMap<Redis, Map<string, Queue>>();

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
   * @throws the refusals of `readSubmitVerdict`, `PB_REDIS_UNAVAILABLE`
   */
  async send(queue: Queue, job: Submission): Promise<void> {
    const client = this.redis.ready;
    if (client === undefined) throw this.redis.unavailable(new Error('the connection was lost'));
    try {
      // the record first: it gives the place, and whoever finds an entry finds its record
      const { state, place } = readSubmitVerdict(job, await client.eval(...submitCall(job)));
      if (state === 'queued') await queue.add(QUEUE_JOB_NAME, { jobId: job.jobId }, queueJobOptions(job.jobId, place));
    } catch (cause) {
      if (isPatchbayError(cause, 'PB_MODEL_NOT_FOUND')) throw await this.#withNearNames(client, job.model);
      throw this.redis.failed(client, cause);
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
