/**
 * Runs the scripts of the protocol package that every job needs several times as Redis functions: EVAL would send and hash
 * their text each time. Functions are kept with the data, so a Redis that was restarted has them too; EVALSHA would answer NOSCRIPT
 * then, and what is said again comes behind commands that were sent later, out of the order of the event log.
 * Redis before 7 has no functions: there all goes by EVAL.
 * @module
 */
import { createHash } from 'node:crypto';
import { JOB_SCRIPTS, type EvalCall } from '@patchbay/protocol';
import type { Redis } from '../redis.js';

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex').slice(0, 16);
const FUNCTIONS = new Map(JOB_SCRIPTS.map((script) => [script, `patchbay_${sha1(script)}`]));
const BODY = [...FUNCTIONS]
  .map(([script, name]) => `redis.register_function('${name}', function(KEYS, ARGV)\n${script}\nend)`)
  .join('\n');
/** Named by its content: orchestrators of other versions have their own. */
const LIBRARY = `#!lua name=patchbay_${sha1(BODY)}\n${BODY}`;

export class Scripts {
  private loaded = false;

  constructor(private readonly redis: Redis) {}

  /** Resolves to why there are none, if so. */
  async load(): Promise<string | undefined> {
    try {
      await this.redis.function('LOAD', LIBRARY);
    } catch (cause) {
      const reason = (cause as Error).message;
      if (!reason.includes('already exists')) return reason;
    }
    this.loaded = true;
    return undefined;
  }

  async run(call: EvalCall): Promise<unknown> {
    const [script, keyCount, ...rest] = call;
    const name = FUNCTIONS.get(script);
    if (!this.loaded || name === undefined) return this.redis.eval(...call);
    try {
      return await this.redis.fcall(name, keyCount, ...rest);
    } catch (cause) {
      if (!(cause as Error).message.includes('Function not found')) throw cause;
      // Redis has lost them, and with them all jobs
      this.loaded = false;
      void this.load();
      return this.redis.eval(...call);
    }
  }
}
