/**
 * The Lua scripts that are the only writers of job records: idempotent submission with caps and a fair place, attempts as
 * fencing tokens, legal transitions, one terminal state, deletion. Each export makes the arguments of one `EVAL`.
 * Keys are spelled from what the record says, so all of them live on one Redis. Not here: connections, the record's shape.
 * @module
 */
import { error, type ErrorJson } from './errors.js';
import { keys } from './keys.js';
import type { JobEventBody } from './events.js';
import { FINISHED_TTL_SECONDS, MAX_CHANGES, MAX_EVENTS, MAX_EVENT_BYTES } from './job-record.js';
import { JOB_STATES, NEXT, isTerminal, type JobState } from './states.js';
import { PLACES_PER_PRIORITY, type Submission } from './submission.js';

/** Arguments of `redis.eval`. */
export type EvalCall = [script: string, keyCount: number, ...keysAndArguments: (string | number)[]];

const LEGAL = `{ ${JOB_STATES.map((from) => `${from} = { ${NEXT[from].map((to: JobState) => `${to} = true`).join(', ')} }`).join(', ')} }`;
const TERMINAL = `{ ${JOB_STATES.filter(isTerminal)
  .map((state) => `${state} = true`)
  .join(', ')} }`;

/**
 * What the scripts share; as a library it is read once. `enter` writes a state with its event, and keeps every count and index
 * that follows from it; `policy_of` gives caps and rate of a submitter, of whom '*' is everybody who has none of his own.
 */
export const PRELUDE = `
local legal = ${LEGAL}
local terminal = ${TERMINAL}
local held = { placing = true, running = true }
local function count(key, field, by)
  if redis.call('HINCRBY', key, field, by) <= 0 then redis.call('HDEL', key, field) end
end
local function finish(job, events, id, now)
  local ttl = tonumber(redis.call('HGET', '${keys.settings}', 'ttlSeconds')) or ${FINISHED_TTL_SECONDS}
  redis.call('ZREM', '${keys.open}', id)
  redis.call('ZREM', '${keys.expiries}', id)
  redis.call('ZADD', '${keys.finished}', now, id)
  local bytes = redis.call('HSTRLEN', job, 'document') + redis.call('HSTRLEN', job, 'result')
  redis.call('HSET', '${keys.sizes}', id, bytes)
  redis.call('HINCRBY', '${keys.settings}', 'storedBytes', bytes)
  redis.call('EXPIRE', job, ttl)
  redis.call('EXPIRE', events, ttl)
  redis.call('EXPIRE', '${keys.end('')}' .. id, ttl)
end
local function enter(job, events, id, now, to, attempt, reason, err)
  local before, model, submitter, transitions = unpack(redis.call('HMGET', job, 'state', 'model', 'submitter', 'transitions'))
  local entry = { state = to, at = tonumber(now), attempt = tonumber(attempt) }
  if reason ~= '' then entry.reason = reason end
  local line = cjson.encode(entry)
  redis.call('HSET', job, 'state', to, 'attempt', attempt, 'updatedAt', now,
    'transitions', (transitions and (transitions .. '\\n') or '') .. line)
  local body = string.sub(line, 1, -2) .. ',"type":"state"'
  if err ~= '' then
    redis.call('HSET', job, 'error', err)
    body = body .. ',"error":' .. err
  end
  body = body .. '}'
  redis.call('XADD', events, '*', 'e', body)
  redis.call('XADD', '${keys.changes}', 'MAXLEN', '~', '${MAX_CHANGES}', '*', 'id', id, 'model', model or '', 'state', to,
    'attempt', attempt, 'at', now)
  local share = '${keys.share('')}' .. (model or '')
  if to == 'queued' and before ~= 'queued' then
    redis.call('HINCRBY', share, 'queued', 1)
    redis.call('HINCRBY', share, 'q:' .. submitter, 1)
  elseif before == 'queued' and to ~= 'queued' then
    count(share, 'queued', -1)
    count(share, 'q:' .. submitter, -1)
    if redis.call('HEXISTS', share, 'q:' .. submitter) == 0 then redis.call('HDEL', share, 't:' .. submitter) end
  end
  if held[to] and not held[before] then redis.call('HINCRBY', '${keys.running}', submitter, 1)
  elseif held[before] and not held[to] then count('${keys.running}', submitter, -1) end
  if terminal[to] then
    redis.call('XADD', '${keys.end('')}' .. id, '*', 'e', body)
    finish(job, events, id, now)
  else
    redis.call('ZADD', '${keys.open}', now, id)
  end
end
local function policy_of(name)
  local text = redis.call('HGET', '${keys.submitters}', name) or redis.call('HGET', '${keys.submitters}', '*')
  return text and cjson.decode(text) or {}
end`;

const SUBMIT_LUA = `${PRELUDE}
local job, events = KEYS[1], KEYS[2]
local id, document, sha, model, labels, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local submitter, priority, expires, artifacts, trace = ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11]
local known, state, place = unpack(redis.call('HMGET', job, 'documentSha256', 'state', 'place'))
if known then
  if known ~= sha then return { 'conflict' } end
  return { 'same', state, place }
end
if redis.call('HEXISTS', '${keys.deployments}', model) == 0 then return { 'no-model' } end
local share, policy = '${keys.share('')}' .. model, policy_of(submitter)
local queued, own, v, tag = unpack(redis.call('HMGET', share, 'queued', 'q:' .. submitter, 'v', 't:' .. submitter))
queued, own, v = tonumber(queued) or 0, tonumber(own) or 0, tonumber(v) or 0
local limit = tonumber(redis.call('HGET', '${keys.settings}', 'maxQueuedPerModel'))
if limit and queued >= limit then return { 'full', 'the queue of ' .. model, queued, limit } end
if policy.maxQueued and own >= policy.maxQueued then
  return { 'full', 'the jobs of ' .. submitter .. ' in the queue of ' .. model, own, policy.maxQueued }
end
if policy.maxPriority and priority > policy.maxPriority then return { 'priority', policy.maxPriority } end
if policy.ratePerMinute then
  -- the generic cell rate algorithm, with a burst of one minute's worth
  local time = redis.call('TIME')
  local at, gap, key = time[1] * 1000 + time[2] / 1000, 60000 / policy.ratePerMinute, '${keys.rate('')}' .. submitter
  local due = math.max(tonumber(redis.call('GET', key)) or 0, at)
  if due - at > 60000 - gap then return { 'rate', math.ceil(due - at - 60000 + gap), policy.ratePerMinute } end
  redis.call('SET', key, string.format('%.3f', due + gap), 'PX', 120000)
end
if queued == 0 and v > ${PLACES_PER_PRIORITY / 2} then v, tag = 0, nil; redis.call('HDEL', share, 'v') end
-- start-time fair queueing: a submitter's next job starts where his last one ends, or now
local start = math.max(v, tonumber(tag) or 0)
redis.call('HSET', share, 't:' .. submitter, string.format('%.6f', start + 1 / (policy.weight or 1)))
place = math.min(math.floor(start), ${PLACES_PER_PRIORITY - 1}) + 1 + (3 - priority) * ${PLACES_PER_PRIORITY}
redis.call('HSET', job, 'documentSha256', sha, 'document', document, 'model', model, 'labels', labels, 'createdAt', now,
  'submitter', submitter, 'place', place)
if artifacts ~= '' then redis.call('HSET', job, 'artifacts', artifacts) end
if trace ~= '' then redis.call('HSET', job, 'traceparent', trace) end
if expires ~= '' then
  redis.call('HSET', job, 'expiresAt', expires)
  redis.call('ZADD', '${keys.expiries}', expires, id)
end
redis.call('ZADD', '${keys.jobs}', now, id)
enter(job, events, id, now, 'queued', '0', '', '')
return { 'created', 'queued', place }`;

const BEGIN_LUA = `${PRELUDE}
local job, events = KEYS[1], KEYS[2]
local id, now, expired = ARGV[1], ARGV[2], ARGV[3]
local state, attempt, model, submitter, place, expires, cancel =
  unpack(redis.call('HMGET', job, 'state', 'attempt', 'model', 'submitter', 'place', 'expiresAt', 'cancelRequested'))
if not state then return { 'missing' } end
if terminal[state] then return { state } end
if state ~= 'queued' then
  redis.call('HINCRBY', job, 'lostConsumers', 1)
  enter(job, events, id, now, 'queued', attempt, 'the worker of this attempt was lost', '')
end
if expires and tonumber(expires) <= tonumber(now) then
  enter(job, events, id, now, 'expired', attempt, cjson.decode(expired).message, expired)
  return { 'expired' }
end
local policy = policy_of(submitter)
if not cancel and policy.maxRunning and (tonumber(redis.call('HGET', '${keys.running}', submitter)) or 0) >= policy.maxRunning then
  redis.call('RPUSH', '${keys.parked('')}' .. submitter, id)
  return { 'parked' }
end
local share = '${keys.share('')}' .. model
local v = (tonumber(place) - 1) % ${PLACES_PER_PRIORITY}
if v > (tonumber(redis.call('HGET', share, 'v')) or 0) then redis.call('HSET', share, 'v', v) end
attempt = tonumber(attempt) + 1
local document, created, lost, queued, trace =
  unpack(redis.call('HMGET', job, 'document', 'createdAt', 'lostConsumers', 'updatedAt', 'traceparent'))
enter(job, events, id, now, 'placing', attempt, '', '')
return { 'ok', attempt, document, created, cancel or '', tonumber(lost) or 0, expires or '', queued, trace or '' }`;

const TRANSITION_LUA = `${PRELUDE}
local job, events = KEYS[1], KEYS[2]
local id, to, attempt, now, reason, result, err, artifacts =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local state, current, submitter = unpack(redis.call('HMGET', job, 'state', 'attempt', 'submitter'))
if not state then return { 'missing' } end
if terminal[state] then return { state } end
if tonumber(attempt) ~= tonumber(current) then return { 'stale' } end
if to == 'placing' or not legal[state][to] then return { state } end
if result ~= '' then redis.call('HSET', job, 'result', result) end
if artifacts ~= '' then
  redis.call('HSET', job, 'artifacts', (redis.call('HGET', job, 'artifacts') or '') .. ' ' .. artifacts)
end
if to == 'running' then redis.call('ZREM', '${keys.expiries}', id) end
enter(job, events, id, now, to, attempt, reason, err)
if held[to] then return { 'ok' } end
-- somebody of the same submitter may have waited for this one
local parked, other = '${keys.parked('')}' .. submitter, nil
repeat other = redis.call('LPOP', parked)
until not other or redis.call('HGET', '${keys.job('')}' .. other, 'state') == 'queued'
return { 'ok', other }`;

const CANCEL_LUA = `${PRELUDE}
local job, events = KEYS[1], KEYS[2]
local id, reason, now, err = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state, attempt = unpack(redis.call('HMGET', job, 'state', 'attempt'))
if not state then return 'missing' end
if terminal[state] then return state end
if redis.call('HSETNX', job, 'cancelRequested', reason) == 0 and state ~= 'queued' then return state end
if state == 'queued' then
  enter(job, events, id, now, 'cancelled', attempt, cjson.decode(err).message, err)
  return 'cancelled'
end
redis.call('PUBLISH', '${keys.cancelChannel}', cjson.encode({ jobId = id, reason = reason }))
return state`;

const APPEND_LUA = `${PRELUDE}
local job, events = KEYS[1], KEYS[2]
local id, attempt, seq, body, full = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local state, current, heard, count, bytes =
  unpack(redis.call('HMGET', job, 'state', 'attempt', 'heard', 'eventCount', 'eventBytes'))
if not state or terminal[state] or attempt ~= current then return 'stale' end
local known = heard and string.match(heard, '^' .. attempt .. ':(%d+)$')
if seq > 0 and known and seq <= tonumber(known) then return 'same' end
if seq > 0 then redis.call('HSET', job, 'heard', attempt .. ':' .. ARGV[3]) end
count, bytes = tonumber(count) or 0, tonumber(bytes) or 0
if count > ${MAX_EVENTS} then return 'full' end
redis.call('HINCRBY', job, 'eventCount', 1)
if count == ${MAX_EVENTS} or bytes + #body > ${MAX_EVENT_BYTES} then
  redis.call('HSET', job, 'eventCount', ${MAX_EVENTS + 1})
  redis.call('XADD', events, '*', 'e', full)
  return 'full'
end
redis.call('HINCRBY', job, 'eventBytes', #body)
redis.call('XADD', events, '*', 'e', body)
return 'ok'`;

/** Of every start of a job and nearly never needed: the error is made once. */
const EXPIRED = JSON.stringify(error('PB_JOB_EXPIRED', {}));

const DELETE_LUA = `${PRELUDE}
local job, events, id = KEYS[1], KEYS[2], ARGV[1]
local state = redis.call('HGET', job, 'state')
if state and not terminal[state] then return state end
redis.call('DEL', job, events, '${keys.end('')}' .. id)
redis.call('ZREM', '${keys.jobs}', id)
redis.call('ZREM', '${keys.finished}', id)
local bytes = tonumber(redis.call('HGET', '${keys.sizes}', id)) or 0
redis.call('HDEL', '${keys.sizes}', id)
redis.call('HINCRBY', '${keys.settings}', 'storedBytes', 0 - bytes)
redis.call('XADD', '${keys.changes}', 'MAXLEN', '~', '${MAX_CHANGES}', '*', 'id', id, 'model', '', 'state', 'removed',
  'attempt', '0', 'at', '0')
return state and 'deleted' or 'missing'`;

/** Those that every job needs, some of them several times. */
export const JOB_SCRIPTS: readonly string[] = [SUBMIT_LUA, BEGIN_LUA, TRANSITION_LUA, APPEND_LUA];

const call = (script: string, jobId: string, ...args: (string | number)[]): EvalCall => [
  script,
  2,
  keys.job(jobId),
  keys.events(jobId),
  jobId,
  ...args,
];

/**
 * Registers a job once. Answers `[verdict, ...]`: `created` and `same` (the id exists with this document) with state and
 * place; `conflict`; `no-model`; `full` with what, how many, limit; `rate` with the wait in ms and the limit; `priority`
 * with the highest that is allowed.
 */
export function submitCall({ jobId, args }: Submission): EvalCall {
  return call(SUBMIT_LUA, jobId, ...args);
}

/**
 * Starts the next attempt, whose number is the fencing token of all that follows. Answers `['ok', attempt, document,
 * createdAt, cancelRequested, lostConsumers, expiresAt, queuedAt, traceparent]`, or `['parked']` when the submitter has as many running as he may,
 * `['missing']`, or the state that stands.
 */
export function beginCall(jobId: string, now: number): EvalCall {
  return call(BEGIN_LUA, jobId, now, `${EXPIRED.slice(0, -1)},"jobId":${JSON.stringify(jobId)}}`);
}

export interface TransitionStep {
  readonly reason?: string;
  readonly result?: string;
  readonly error?: ErrorJson;
  /** Digests of the files of a result. */
  readonly artifacts?: readonly string[];
}

/**
 * Moves a job to another state if `attempt` is the current one. Answers `['ok', id?]` with a job of the same submitter that
 * can go on now; `['missing']`, `['stale']`, or the state that does not allow the step.
 */
export function transitionCall(
  jobId: string,
  to: JobState,
  attempt: number,
  now: number,
  step: TransitionStep = {},
): EvalCall {
  const failure = step.error === undefined ? '' : JSON.stringify({ ...step.error, jobId });
  const { reason = '', result = '', artifacts = [] } = step;
  return call(TRANSITION_LUA, jobId, to, attempt, now, reason, result, failure, artifacts.join(' '));
}

/** Asks for a job's end: a queued one is cancelled at once, a running one gets a flag and a message. Answers `missing` or the state after the call. */
export function cancelCall(jobId: string, reason: string, now: number): EvalCall {
  return call(CANCEL_LUA, jobId, reason, now, JSON.stringify(error('PB_JOB_CANCELLED', { reason }, { jobId })));
}

/**
 * Adds an event that an attempt reports, once: `seq` counts them, 0 for one that is not counted. Answers `ok`; `same`, when it
 * is there already; `stale`, when the attempt is over; `full`, when the log takes no more, which its last entry tells.
 */
export function appendCall(jobId: string, event: JobEventBody, seq: number): EvalCall {
  const { attempt, at } = event;
  const text = 'the event log of this job is full: from here on only its states are kept\n';
  const full: JobEventBody = { type: 'log', at, attempt, text };
  return call(APPEND_LUA, jobId, attempt, seq, JSON.stringify(event), JSON.stringify(full));
}

/** Forgets a job that has ended. Answers `deleted`, `missing`, or the state of one that has not ended. */
export function deleteCall(jobId: string): EvalCall {
  return call(DELETE_LUA, jobId);
}
