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
  /** Stream of one entry: the event that ended a job, for whoever waits for nothing else. */
  end: (jobId: string) => `${PREFIX}:end:${jobId}`,
  /** Sorted set: job ids by time of submission. */
  jobs: `${PREFIX}:jobs`,
  /** Sorted set: ids of jobs that have not ended, by their last step. */
  open: `${PREFIX}:open`,
  /** Sorted set: ids of jobs that expire unless they run by then, by that time. */
  expiries: `${PREFIX}:expiries`,
  /** Sorted set: ids of jobs that ended, by that time. */
  finished: `${PREFIX}:finished`,
  /** Hash: id of an ended job -> bytes of its document and result. */
  sizes: `${PREFIX}:sizes`,
  /** Hash: what the operator set and the scripts need (`ttlSeconds`, `maxQueuedPerModel`), and `storedBytes`. */
  settings: `${PREFIX}:settings`,
  /** Hash: name of a submitter -> his policy (submitters.ts), JSON; `*` is everybody else. */
  submitters: `${PREFIX}:submitters`,
  /** Hash: name of a submitter -> how many of his jobs are placing or running. */
  running: `${PREFIX}:running`,
  /** Hash: the fair queue of a deployment: `queued`, `v`irtual time, per submitter `q:` his queued jobs and `t:` his next start. */
  share: (deployment: string) => `${PREFIX}:share:${deployment}`,
  /** List: ids of jobs that wait for another one of the same submitter to end. */
  parked: (submitter: string) => `${PREFIX}:parked:${submitter}`,
  /** String: when the next submission of this submitter is due. */
  rate: (submitter: string) => `${PREFIX}:rate:${submitter}`,
  /** Sorted set: digests of artifacts that somebody was told of as there, by when. */
  promised: `${PREFIX}:promised`,
  /** String: the orchestrator that sweeps now. */
  sweeper: `${PREFIX}:sweeper`,
  /** Hash: deployment name -> its record (deployment.ts), JSON. */
  deployments: `${PREFIX}:deployments`,
  /** Stream: every step of every job, for pages that show many; the newest few thousand. */
  changes: `${PREFIX}:changes`,
  /** Hash: what ended in an hour (unix hours) of a deployment: `<minute>:<state>`, `<minute>:run`, `<minute>:t<bucket>`. */
  jobStats: (deployment: string, hour: number) => `${PREFIX}:stats:${deployment}:${hour}`,
  /** Channel: `{jobId, reason}` of jobs to stop. */
  cancelChannel: `${PREFIX}:cancel`,
} as const;
