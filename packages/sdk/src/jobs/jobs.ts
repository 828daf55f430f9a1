/** Submit, find and stop jobs. Not here: one job (job-handle.ts). @module */
import { randomUUID } from 'node:crypto';
import {
  error,
  isPatchbayError,
  isTerminal,
  parseJobDocument,
  submission,
  type JobState,
  type JobStatus,
  type Submission,
} from '@patchbay/protocol';
import type { JobPage } from '@patchbay/protocol/http';
import { bounded, throwIfAborted, type CallOptions } from '../transport/deadline.js';
import { EventFeed } from '../transport/event-feed.js';
import type { HttpClient } from '../transport/http.js';
import { callRoute } from '../transport/routes.js';
import { tracedSubmission } from '../transport/traced.js';
import { buildJob, type JobSpec } from './job-builder.js';
import { JobHandle, type CancelOptions, type JobServices } from './job-handle.js';
import { Paged } from './paged.js';
import type { Submitter } from './submit.js';

export interface SubmitOptions extends CallOptions {
  /** Ends the submission, and later the waits of the handle that do not end by themselves. */
  readonly signal?: AbortSignal | undefined;
  /** When the signal aborts, cancel the job too, also later. @defaultValue false: the job runs on */
  readonly cancelOnAbort?: boolean | undefined;
  /** Submitting the same id and document again gives the first job. @defaultValue a new id */
  readonly jobId?: string | undefined;
  /** Milliseconds for the submission. @defaultValue the client's `submitTimeoutMs` */
  readonly timeoutMs?: number | undefined;
}

/** Which jobs a list has. */
export interface JobFilter {
  readonly state?: JobState | undefined;
  readonly model?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Jobs per page. @defaultValue the orchestrator's */
  readonly limit?: number | undefined;
  /** `nextCursor` of an earlier page. */
  readonly cursor?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export class Jobs {
  /** @internal */
  constructor(
    private readonly services: JobServices,
    private readonly submitter: Submitter,
    private readonly http: HttpClient,
    private readonly submitTimeoutMs: number,
  ) {}

  /**
   * Checks the job and puts it into the queue of its deployment; resolves when that is durable, not when it has run.
   * @throws `PB_DOCUMENT_INVALID` and the other errors of a document with the path in it, `PB_MODEL_NOT_FOUND`,
   *   `PB_JOB_ID_CONFLICT`, `PB_HOOK_REUSED`, `PB_SUBMIT_TIMEOUT`, `PB_ABORTED`, `PB_STACK_NOT_RUNNING`, `PB_REDIS_UNAVAILABLE`
   */
  async submit(spec: JobSpec, options: SubmitOptions = {}): Promise<JobHandle> {
    const { signal, timeoutMs = this.submitTimeoutMs } = options;
    const { document, hookFunctions } = buildJob(spec);
    const given = options.jobId ?? document.jobId;
    if (document.jobId !== undefined && document.jobId !== given) {
      throw error(
        'PB_DOCUMENT_INVALID',
        { reason: `the document says ${document.jobId}, the option ${given}` },
        { path: 'jobId' },
      );
    }
    const parsed = parseJobDocument(given === undefined ? document : { ...document, jobId: given });
    throwIfAborted(signal);
    const jobId = given ?? randomUUID();
    const feed = new EventFeed(jobId);
    const attempt = new AbortController();
    let state: JobState = 'queued';
    try {
      for (const hook of hookFunctions) hook.register(jobId);
      const named = { 'patchbay.job.id': jobId, 'patchbay.model': parsed.model };
      await tracedSubmission(named, async (traceparent) => {
        const job = submission(parsed, jobId, { now: Date.now(), traceparent });
        const work = this.#send(job, feed, attempt.signal, given === undefined);
        state = await bounded(
          work,
          { signal, timeoutMs },
          () => error('PB_SUBMIT_TIMEOUT', { timeoutMs }, { jobId }),
          jobId,
        );
      });
    } catch (cause) {
      attempt.abort();
      for (const hook of hookFunctions) hook.release(jobId);
      if (feed.readers > 0) this.services.follower.unfollow(feed, 'end');
      // the submission may have been on its way
      if (options.cancelOnAbort === true && signal?.aborted === true) await this.cancel(jobId).catch(() => undefined);
      throw cause;
    }
    const handle = new JobHandle(jobId, this.services, signal, feed, !isTerminal(state));
    if (options.cancelOnAbort === true && signal !== undefined) handle.cancelWith(signal);
    return handle;
  }

  /** The handle of a job, from this or another process. Nothing is asked yet: an unknown id fails at its first use. */
  get(jobId: string): JobHandle {
    return new JobHandle(jobId, this.services);
  }

  /**
   * Jobs, newest first: awaited it is one page, in `for await` every job of all pages.
   * @throws `PB_STACK_NOT_RUNNING`, `PB_ORCHESTRATOR_UNAVAILABLE`, `PB_UNAUTHORIZED`, `PB_ABORTED`
   */
  list(filter: JobFilter = {}): Paged<JobPage, JobStatus> {
    return new Paged(
      (cursor) => this.#page({ ...filter, cursor: cursor ?? filter.cursor }),
      (page) => page.jobs,
    );
  }

  /** The same as `get(jobId).cancel()`. */
  async cancel(jobId: string, options: CancelOptions = {}): Promise<JobStatus> {
    return this.get(jobId).cancel(options);
  }

  /** Forgets a job that has ended, with its result and events. @throws `PB_JOB_NOT_FOUND`, `PB_JOB_RUNNING`, `PB_REDIS_UNAVAILABLE` */
  async delete(jobId: string): Promise<void> {
    await this.services.records.delete(jobId);
  }

  /** Both connections are open before anything is written, so that whoever runs the job and who waits for it hear at once. */
  async #send(
    job: Submission,
    feed: EventFeed,
    attempt: AbortSignal,
    fresh: boolean,
    again = false,
  ): Promise<JobState> {
    const { follower } = this.services;
    const [queue] = await Promise.all([this.submitter.prepare(job.model), follower.open()]);
    throwIfAborted(attempt, job.jobId); // nobody waits any more
    try {
      const sent = this.submitter.send(queue, job, fresh);
      if (feed.readers === 0) follower.follow(feed, 'end');
      return await sent;
    } catch (cause) {
      if (again || !isPatchbayError(cause, 'PB_REDIS_UNAVAILABLE')) throw cause;
      return this.#send(job, feed, attempt, false, true); // the connection was lost on the way: nothing runs twice
    }
  }

  async #page({ state, model, labels = {}, limit, cursor, signal }: JobFilter): Promise<JobPage> {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries({ state, model, limit, cursor }))
      if (value !== undefined) query.set(key, String(value));
    for (const [key, value] of Object.entries(labels)) query.append('label', `${key}:${value}`);
    return callRoute(this.http, 'jobs', { query, signal });
  }
}
