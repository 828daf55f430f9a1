/**
 * The scripts of job-scripts.ts that every job needs, as a library of Redis functions: EVAL sends and hashes a script's text each
 * time. Functions are kept with the data, so a Redis that was restarted has them too; EVALSHA would answer NOSCRIPT then, and what
 * is said again comes behind commands that were sent later. Not here: calls, and what to do without (Redis before 7).
 * @module
 */
import { createHash } from 'node:crypto';
import { JOB_SCRIPTS, PRELUDE, type EvalCall } from './job-scripts.js';

/** Arguments of `redis.fcall`. */
export type FunctionCall = [name: string, keyCount: number, ...keysAndArguments: (string | number)[]];

const digest = (text: string): string => createHash('sha1').update(text).digest('hex').slice(0, 16);

/** Scripts as a library, and the name of each. */
export interface Library {
  /** For `FUNCTION LOAD`. */
  readonly text: string;
  readonly names: ReadonlyMap<string, string>;
}

/**
 * All names follow from the whole content, so that several versions of Patchbay can use one Redis, one after the other or at
 * once: it has one space of names for the functions of all libraries, and refuses a library with a name that is taken.
 *
 * @param prelude - what scripts begin with; in the library it stands once
 */
export function libraryOf(scripts: readonly string[], prelude = ''): Library {
  const name = `patchbay_${digest(scripts.join('\n'))}`;
  const names = new Map(scripts.map((script, index) => [script, `${name}_${index}`]));
  const functions = [...names].map(
    ([script, own]) =>
      `redis.register_function('${own}', function(KEYS, ARGV)\n${script.slice(script.startsWith(prelude) ? prelude.length : 0)}\nend)`,
  );
  return { text: `#!lua name=${name}\n${prelude}\n${functions.join('\n')}`, names };
}

export const JOB_LIBRARY = libraryOf(JOB_SCRIPTS, PRELUDE);

/** The same call as a function; undefined for a script that is none. */
export function functionCall([script, ...rest]: EvalCall): FunctionCall | undefined {
  const name = JOB_LIBRARY.names.get(script);
  return name === undefined ? undefined : [name, ...rest];
}

/** Whether an error says that a function cannot be called, and not that it failed: unknown, not allowed, or no such command. */
export function lacksFunction(cause: unknown): boolean {
  return cause instanceof Error && /Function not found|unknown command|NOPERM/.test(cause.message);
}
