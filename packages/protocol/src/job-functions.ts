/**
 * The scripts of job-scripts.ts that every job needs, as a library of Redis functions: EVAL sends and hashes a script's text each
 * time. Functions are kept with the data, so a Redis that was restarted has them too; EVALSHA would answer NOSCRIPT then, and what
 * is said again comes behind commands that were sent later. Not here: calls, and what to do without (Redis before 7).
 * @module
 */
import { createHash } from 'node:crypto';
import { JOB_SCRIPTS, type EvalCall } from './job-scripts.js';

/** Arguments of `redis.fcall`. */
export type FunctionCall = [name: string, keyCount: number, ...keysAndArguments: (string | number)[]];

const digest = (text: string): string => createHash('sha1').update(text).digest('hex').slice(0, 16);
const NAMES = new Map(JOB_SCRIPTS.map((script) => [script, `patchbay_${digest(script)}`]));
const BODY = [...NAMES]
  .map(([script, name]) => `redis.register_function('${name}', function(KEYS, ARGV)\n${script}\nend)`)
  .join('\n');

/** For `FUNCTION LOAD`. All names follow from the content, so that several versions of Patchbay can use one Redis. */
export const JOB_LIBRARY = `#!lua name=patchbay_${digest(BODY)}\n${BODY}`;

/** The same call as a function; undefined for a script that is none. */
export function functionCall([script, ...rest]: EvalCall): FunctionCall | undefined {
  const name = NAMES.get(script);
  return name === undefined ? undefined : [name, ...rest];
}

/** Whether an error says that a function cannot be called, and not that it failed: unknown, not allowed, or no such command. */
export function lacksFunction(cause: unknown): boolean {
  return cause instanceof Error && /Function not found|unknown command|NOPERM/.test(cause.message);
}
