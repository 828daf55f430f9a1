// What a person sees of the set-up, on standard error: one line a step with its time. Not here: running commands.
import { appendFileSync, writeFileSync } from 'node:fs';

const HEARTBEAT_MS = 15_000;

/** A failure with its cure; printed without a stack, because it is about the machine and not about this code. */
export class SetupError extends Error {
  constructor(message, fix = '') {
    super(message);
    this.fix = fix;
  }
}

/** `step` names and times a piece of work; `log` keeps the commands' own output for the case that one fails. */
export function createProgress(logPath) {
  writeFileSync(logPath, '');
  const begun = Date.now();
  const live = process.stderr.isTTY === true;
  let worked = false;
  let tail = '';

  const seconds = (from) => `${((Date.now() - from) / 1000).toFixed(1)} s`;
  const line = (mark, title, note) => `setup: ${mark} ${title.padEnd(36)} ${note}`;

  return {
    logPath,
    note(text) {
      process.stderr.write(`setup: ${text}\n`);
    },
    log(text) {
      appendFileSync(logPath, text);
      tail = text.trim().split('\n').at(-1)?.trim() ?? tail;
    },
    /** `hint` says how long a step may take, for those that take long. */
    async step(title, work, hint = '') {
      const from = Date.now();
      const show = () => {
        const width = (process.stderr.columns ?? 100) - 1;
        if (live) process.stderr.write(`\r\u001b[K${line('-', title, `${seconds(from)}  ${tail}`).slice(0, width)}`);
        else process.stderr.write(`${line('-', title, `still working, ${seconds(from)}`)}\n`);
      };
      if (hint !== '') process.stderr.write(`${line('-', title, hint)}\n`);
      const timer = setInterval(show, live ? 500 : HEARTBEAT_MS);
      try {
        const result = await work();
        worked = true;
        if (live) process.stderr.write('\r\u001b[K');
        process.stderr.write(`${line('+', title, seconds(from))}\n`);
        return result;
      } finally {
        clearInterval(timer);
        tail = '';
      }
    },
    finish() {
      if (worked) process.stderr.write(`setup: ready in ${seconds(begun)}\n`);
    },
  };
}
