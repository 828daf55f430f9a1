/** The BullMQ queues as producers see them: put a job in, take one out. Not here: taking jobs to run them (consumer.ts). @module */
import { QUEUE_JOB_NAME, QUEUE_PREFIX, queueJobId, queueJobOptions, queueName } from '@patchbay/protocol';
import { Queue } from 'bullmq';
import type { Redis } from '../redis.js';

/** A queue per deployment, on one connection. */
export class Queues {
  private readonly queues = new Map<string, Queue<{ jobId: string }>>();

  constructor(
    private readonly redis: Redis,
    private readonly onError: (cause: Error) => void,
  ) {}

  private of(model: string): Queue<{ jobId: string }> {
    let queue = this.queues.get(model);
    if (queue === undefined) {
      queue = new Queue<{ jobId: string }>(queueName(model), {
        connection: this.redis,
        prefix: QUEUE_PREFIX,
        skipMetasUpdate: true,
      });
      queue.on('error', this.onError);
      this.queues.set(model, queue);
    }
    return queue;
  }

  /** Does nothing when the job has an entry. */
  async add(model: string, jobId: string, place: number): Promise<void> {
    await this.of(model).add(QUEUE_JOB_NAME, { jobId }, queueJobOptions(jobId, place));
  }

  /** Whether the job waits there, or a consumer has it. */
  async has(model: string, jobId: string): Promise<boolean> {
    return (await this.of(model).getJob(queueJobId(jobId))) !== undefined;
  }

  /** Whether a consumer has the job and still says so. */
  async isHeld(model: string, jobId: string): Promise<boolean> {
    return (await this.redis.exists(`${this.of(model).toKey(queueJobId(jobId))}:lock`)) === 1;
  }

  /** For the raw view of queues. */
  raw(model: string): Queue<{ jobId: string }> {
    return this.of(model);
  }

  async counts(model: string): Promise<{ waiting: number; running: number; draining: boolean }> {
    const queue = this.of(model);
    const [counts, draining] = await Promise.all([
      queue.getJobCounts('waiting', 'delayed', 'prioritized', 'active'),
      queue.isPaused(),
    ]);
    const { active = 0, ...others } = counts;
    return { waiting: Object.values(others).reduce((sum, count) => sum + count, 0), running: active, draining };
  }

  /** A draining queue takes jobs in, but gives none out; what runs goes on. Kept in Redis until it is changed again. */
  async drainInto(model: string, draining: boolean): Promise<void> {
    await (draining ? this.of(model).pause() : this.of(model).resume());
  }

  /** How many jobs are given out before this one; null when it does not wait. Those put back come before all others. */
  async ahead(model: string, jobId: string): Promise<number | null> {
    const queue = this.of(model);
    const [wait, id] = [queue.toKey('wait'), queueJobId(jobId)];
    const [index, length, rank] = await Promise.all([
      this.redis.lpos(wait, id),
      this.redis.llen(wait),
      this.redis.zrank(queue.toKey('prioritized'), id),
    ]);
    // jobs enter at the head and leave at the tail
    if (index !== null) return Math.max(0, length - 1 - index);
    if (rank !== null) return length + rank;
    return this.redis.zrank(queue.toKey('delayed'), id);
  }

  /** Takes a job out unless a consumer has it. */
  async remove(model: string, jobId: string): Promise<void> {
    await this.of(model).remove(queueJobId(jobId));
  }

  async waiting(model: string): Promise<number> {
    return this.of(model).getJobCountByTypes('waiting', 'delayed', 'prioritized');
  }

  /** Takes everything out that no consumer has and tells the ids, in portions. */
  async *drain(model: string): AsyncGenerator<string> {
    const queue = this.of(model);
    for (;;) {
      const jobs = await queue.getJobs(['waiting', 'delayed', 'prioritized'], 0, 99);
      if (jobs.length === 0) return;
      for (const job of jobs) {
        // BullMQ answers with undefined for a job that ended between its two calls
        if (job?.id === undefined) continue;
        await queue.remove(job.id);
        yield job.data.jobId;
      }
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.queues.values()].map((queue) => queue.close()));
  }
}
