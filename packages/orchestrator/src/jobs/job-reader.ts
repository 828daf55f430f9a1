/** Reads job records for people: one, its result, a page of many. Not here: writing (job-record.ts). @module */
import {
  STATUS_FIELDS,
  error,
  isTerminal,
  keys,
  readJobStatus,
  type JobDocument,
  type JobState,
  type JobStatus,
} from '@patchbay/protocol';
import type { JobPage } from '@patchbay/protocol/http';
import type { Redis } from '../redis.js';

export interface JobFilter {
  readonly state?: JobState | undefined;
  readonly model?: string | undefined;
  /** Stands in the id, a label, the model's name or the error, whatever the case. */
  readonly text?: string | undefined;
  /** All of them. */
  readonly labels?: readonly { readonly key: string; readonly value: string }[] | undefined;
  readonly submitter?: string | undefined;
}

const PORTION = 200;
/** A filter that nothing fits ends a page after this many records, so that a request stays short. */
const MAX_SCANNED = 5_000;

interface Position {
  readonly score: number;
  readonly id: string;
}

export class JobReader {
  constructor(private readonly redis: Redis) {}

  /** @throws `PB_JOB_NOT_FOUND` */
  async status(jobId: string): Promise<JobStatus> {
    const status = (await this.statuses([jobId]))[0];
    if (status === undefined) throw error('PB_JOB_NOT_FOUND', { jobId }, { jobId });
    return status;
  }

  /** Whose job it is; undefined when there is none. */
  async owner(jobId: string): Promise<string | undefined> {
    return (await this.redis.hget(keys.job(jobId), 'submitter')) ?? undefined;
  }

  /** As it was checked when it was submitted. */
  async document(jobId: string): Promise<JobDocument> {
    return JSON.parse((await this.redis.hget(keys.job(jobId), 'document')) ?? 'null') as JobDocument;
  }

  /** The result's JSON; of a job that ended otherwise its state and error. @throws `PB_JOB_NOT_FOUND`, `PB_WAIT_TIMEOUT` while it runs */
  async result(jobId: string): Promise<string> {
    const [status, result] = await Promise.all([this.status(jobId), this.redis.hget(keys.job(jobId), 'result')]);
    if (result !== null) return result;
    if (!isTerminal(status.state)) throw error('PB_WAIT_TIMEOUT', { timeoutMs: 0 }, { jobId });
    const { state, attempt, model } = status;
    const ended = { jobId, state, attempt, model, error: status.error ?? null };
    const nothing = {
      runs: {},
      activations: [],
      saveCtx: {},
      parameters: [],
      hooks: [],
      timings: {},
      warnings: [],
      files: {},
    };
    return JSON.stringify({ ...ended, ...nothing });
  }

  /** Newest first. @throws `PB_REQUEST_INVALID` for a cursor that is none */
  async list(filter: JobFilter, limit: number, cursor?: string): Promise<JobPage> {
    let position = cursor === undefined ? undefined : parseCursor(cursor);
    const jobs: JobStatus[] = [];
    for (let scanned = 0; scanned < MAX_SCANNED; scanned += PORTION) {
      const found = await this.after(position);
      const statuses = await this.statuses(found.map(({ id }) => id));
      for (const [index, status] of statuses.entries()) {
        position = found[index]!;
        if (status === undefined || !fits(status, filter)) continue;
        jobs.push(status);
        if (jobs.length === limit) return { jobs, nextCursor: formatCursor(position) };
      }
      if (found.length < PORTION) return { jobs };
    }
    return { jobs, ...(position !== undefined && { nextCursor: formatCursor(position) }) };
  }

  /** The next portion below a position. Redis orders equal scores by id, so those of its millisecond are skipped by id. */
  private async after(position: Position | undefined): Promise<Position[]> {
    const same = position === undefined ? 0 : await this.redis.zcount(keys.jobs, position.score, position.score);
    const from = position?.score ?? '+inf';
    const flat = await this.redis.zrevrangebyscore(keys.jobs, from, '-inf', 'WITHSCORES', 'LIMIT', 0, PORTION + same);
    const entries: Position[] = [];
    for (let index = 0; index < flat.length; index += 2)
      entries.push({ id: flat[index]!, score: Number(flat[index + 1]) });
    const below = entries.filter(
      ({ id, score }) => position === undefined || score < position.score || id < position.id,
    );
    return below.slice(0, PORTION);
  }

  private async statuses(jobIds: readonly string[]): Promise<(JobStatus | undefined)[]> {
    return Promise.all(
      jobIds.map(async (id) => {
        const values = await this.redis.hmget(keys.job(id), ...STATUS_FIELDS);
        const fields = STATUS_FIELDS.flatMap((field, index) =>
          values[index] == null ? [] : [[field, values[index]] as const],
        );
        return readJobStatus(id, Object.fromEntries(fields));
      }),
    );
  }
}

function fits(status: JobStatus, { state, model, labels = [], text, submitter }: JobFilter): boolean {
  if (submitter !== undefined && status.submitter !== submitter) return false;
  if (state !== undefined && status.state !== state) return false;
  if (model !== undefined && status.model !== model) return false;
  if (text !== undefined && !wordsOf(status).toLowerCase().includes(text.toLowerCase())) return false;
  return labels.every(({ key, value }) => status.labels[key] === value);
}

const wordsOf = ({ id, model, labels, error }: JobStatus): string =>
  [id, model, ...Object.entries(labels).flat(), error?.code ?? '', error?.message ?? ''].join('\n');

const formatCursor = ({ score, id }: Position): string => `${score}.${id}`;

function parseCursor(cursor: string): Position {
  const [, score, id] = /^(\d+)\.(.+)$/.exec(cursor) ?? [];
  if (score === undefined || id === undefined)
    throw error('PB_REQUEST_INVALID', { reason: 'not a cursor of a page' }, { path: 'cursor' });
  return { score: Number(score), id };
}
