/**
 * The record of a job in Redis and the Lua scripts that are its only writers: idempotent submission, legal and fenced
 * transitions, one terminal state. Not here: connections; the SDK and the orchestrator run the scripts on their own.
 * @module
 */
import { z } from 'zod';
import { errorJson } from './errors.js';
import { keys } from './keys.js';
import { JOB_STATES, NEXT, isTerminal, type JobState } from './states.js';

/** The event log of a job keeps about this many entries. */
export const MAX_EVENTS = 10_000;
/** The stream of all jobs' steps keeps about this many. */
export const MAX_CHANGES = 5_000;
/** Records and events of finished jobs are kept this long, in seconds. */
export const FINISHED_TTL_SECONDS = 7 * 24 * 3600;

const transition = z.object({
  state: z.enum(JOB_STATES),
  at: z.number(),
  attempt: z.int(),
  reason: z.string().optional(),
});

/** What `jobs.get` and `jobs.list` tell about a job. */
export const jobStatus = z.object({
  id: z.string(),
  model: z.string(),
  state: z.enum(JOB_STATES),
  attempt: z.int(),
  labels: z.record(z.string(), z.string()),
  createdAt: z.number(),
  updatedAt: z.number(),
  cancelRequested: z.string().optional(),
  error: errorJson.optional(),
  transitions: z.array(transition),
});
export type JobStatus = z.output<typeof jobStatus>;

const json = (text: string | undefined, fallback: unknown): unknown =>
  text === undefined || text === '' ? fallback : JSON.parse(text);

/** The fields of the Redis hash as a status; undefined when there is no such job. */
export function readJobStatus(id: string, fields: Readonly<Record<string, string>>): JobStatus | undefined {
  if (fields['state'] === undefined) return undefined;
  const transitions = (fields['transitions'] ?? '').split('\n').filter((line) => line !== '');
  return jobStatus.parse({
    id,
    model: fields['model'],
    state: fields['state'],
    attempt: Number(fields['attempt'] ?? 0),
    labels: json(fields['labels'], {}),
    createdAt: Number(fields['createdAt']),
    updatedAt: Number(fields['updatedAt']),
    cancelRequested: fields['cancelRequested'],
    error: json(fields['error'], undefined),
    transitions: transitions.map((line): unknown => JSON.parse(line)),
  });
}

/** Fields of the hash that a status needs: not the document and the result, which may be large. */
export const STATUS_FIELDS = [
  'model',
  'state',
  'attempt',
  'labels',
  'createdAt',
  'updatedAt',
  'cancelRequested',
  'error',
  'transitions',
] as const;

const APPEND = `
local function append(to, attempt, reason, err)
  local entry = { state = to, at = tonumber(now), attempt = tonumber(attempt) }
  if reason ~= '' then entry.reason = reason end
  local line = cjson.encode(entry)
  local transitions = redis.call('HGET', job, 'transitions')
  redis.call('HSET', job, 'state', to, 'attempt', attempt, 'updatedAt', now,
    'transitions', (transitions and (transitions .. '\\n') or '') .. line)
  entry.type = 'state'
  local body = cjson.encode(entry)
  if err ~= '' then body = string.sub(body, 1, -2) .. ',"error":' .. err .. '}' end
  redis.call('XADD', events, 'MAXLEN', '~', '${MAX_EVENTS}', '*', 'e', body)
  redis.call('XADD', '${keys.changes}', 'MAXLEN', '~', '${MAX_CHANGES}', '*', 'id', id,
    'model', redis.call('HGET', job, 'model') or '', 'state', to, 'attempt', attempt, 'at', now)
end`;

/**
 * Registers a job once.
 * KEYS job, events, jobs, deployments. ARGV id, document, sha256 of the document, model, labels JSON, now (ms).
 * Returns `created`, `same` (the id exists with this document), `conflict`, or `no-model`.
 */
export const SUBMIT_LUA = `
local job, events, jobs = KEYS[1], KEYS[2], KEYS[3]
local id, document, sha, model, labels, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
${APPEND}
local known = redis.call('HGET', job, 'documentSha256')
if known then return known == sha and 'same' or 'conflict' end
if redis.call('HEXISTS', KEYS[4], model) == 0 then return 'no-model' end
redis.call('HSET', job, 'documentSha256', sha, 'document', document, 'model', model, 'labels', labels, 'createdAt', now)
redis.call('ZADD', jobs, now, id)
append('queued', '0', '', '')
return 'created'`;

const LEGAL = `{ ${JOB_STATES.map((from) => `${from} = { ${NEXT[from].map((to: JobState) => `${to} = true`).join(', ')} }`).join(', ')} }`;
const TERMINAL = `{ ${JOB_STATES.filter(isTerminal)
  .map((state) => `${state} = true`)
  .join(', ')} }`;

/**
 * Moves a job to another state, if its attempt is still the current one.
 * KEYS job, events, jobs. ARGV to, attempt, now (ms), reason, result JSON, error JSON ('' = none), id.
 * Going to `placing` starts the attempt: it must be newer than the record's; every other step needs the same attempt.
 * Returns `ok`, `missing`, `stale`, or the present state when the step is not legal.
 */
export const TRANSITION_LUA = `
local job, events, jobs = KEYS[1], KEYS[2], KEYS[3]
local to, attempt, now, reason, result, err = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local id = ARGV[7]
local legal, terminal = ${LEGAL}, ${TERMINAL}
${APPEND}
local state = redis.call('HGET', job, 'state')
if not state then return 'missing' end
local current = tonumber(redis.call('HGET', job, 'attempt'))
if to == 'placing' and not terminal[state] then
  if tonumber(attempt) <= current then return 'stale' end
  if state ~= 'queued' then append('queued', current, 'the worker of this attempt was lost', '') end
elseif tonumber(attempt) ~= current then
  return terminal[state] and state or 'stale'
elseif not legal[state][to] then
  return state
end
if terminal[state] then return state end
if err ~= '' then redis.call('HSET', job, 'error', err) end
if result ~= '' then redis.call('HSET', job, 'result', result) end
append(to, attempt, reason, err)
if terminal[to] then
  redis.call('EXPIRE', job, ${FINISHED_TTL_SECONDS})
  redis.call('EXPIRE', events, ${FINISHED_TTL_SECONDS})
  redis.call('ZREMRANGEBYSCORE', jobs, '-inf', tonumber(now) - ${FINISHED_TTL_SECONDS * 1000})
end
return 'ok'`;

/**
 * Asks for a job's end: a queued one is cancelled at once, a running one gets a flag and a message on the channel.
 * KEYS job, events. ARGV id, reason, now (ms), channel. Returns `missing` or the state after the call.
 */
export const CANCEL_LUA = `
local job, events = KEYS[1], KEYS[2]
local id, reason, now, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local terminal = ${TERMINAL}
${APPEND}
local state = redis.call('HGET', job, 'state')
if not state then return 'missing' end
if terminal[state] then return state end
redis.call('HSET', job, 'cancelRequested', reason)
if state == 'queued' then
  append('cancelled', redis.call('HGET', job, 'attempt'), reason, '')
  redis.call('EXPIRE', job, ${FINISHED_TTL_SECONDS})
  redis.call('EXPIRE', events, ${FINISHED_TTL_SECONDS})
  return 'cancelled'
end
redis.call('PUBLISH', channel, cjson.encode({ jobId = id, reason = reason }))
return state`;

/**
 * Forgets a job that is over. KEYS job, events, jobs. ARGV id.
 * Returns `removed`, `missing`, or the state of a job that is not over.
 */
export const REMOVE_LUA = `
local terminal = ${TERMINAL}
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'missing' end
if not terminal[state] then return state end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('XADD', '${keys.changes}', 'MAXLEN', '~', '${MAX_CHANGES}', '*', 'id', ARGV[1], 'model', '', 'state', 'removed',
  'attempt', '0', 'at', '0')
return 'removed'`;
