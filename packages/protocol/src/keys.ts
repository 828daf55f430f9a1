/** Every Redis key, channel and queue name. Nothing else in the product spells one. @module */

const PREFIX = 'patchbay';

/** Prefix that BullMQ puts before its own keys. */
export const QUEUE_PREFIX = `${PREFIX}:queue`;

/** The BullMQ queue of a deployment. */
export function queueName(deployment: string): string {
  return `jobs-${deployment}`;
}

export const keys = {
  /** Hash: the record of a job (job-record.ts). */
  job: (jobId: string) => `${PREFIX}:job:${jobId}`,
  /** Stream: the event log of a job. */
  events: (jobId: string) => `${PREFIX}:events:${jobId}`,
  /** Sorted set: job ids by time of submission. */
  jobs: `${PREFIX}:jobs`,
  /** Hash: deployment name -> its record (deployment.ts), JSON. */
  deployments: `${PREFIX}:deployments`,
  /** Stream: every step of every job, for pages that show many; the newest few thousand. */
  changes: `${PREFIX}:changes`,
  /** Hash: what ended in an hour (unix hours) of a deployment: `<minute>:<state>`, `<minute>:run`, `<minute>:t<bucket>`. */
  jobStats: (deployment: string, hour: number) => `${PREFIX}:stats:${deployment}:${hour}`,
  /** Channel: `{jobId, reason}` of jobs to stop. */
  cancelChannel: `${PREFIX}:cancel`,
} as const;
