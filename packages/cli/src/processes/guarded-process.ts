/**
 * One command under `guard.py`: whatever it starts ends with it, and it ends with this process, however that ends.
 * Not here: starting it again (part.ts).
 * @module
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { error, type PatchbayError } from '@patchbay/protocol';
import { installation } from '../installation.js';

export interface CommandOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly log: string;
  /** Interpreter of the guard; its standard library is enough. */
  readonly python: string;
  readonly stopSignal?: 'TERM' | 'INT';
  /** How long the command may take to end after the signal. */
  readonly graceSeconds: number;
  /** Files and folders that the guard deletes at the very end. */
  readonly remove?: readonly string[];
}

/** What a log says last; of an entry in JSON its message. */
function lastLine(text: string): string {
  const line = text.trimEnd().split('\n').pop()?.trim() ?? '';
  const message = /"(?:message|msg)":"((?:[^"\\]|\\.)*)"/.exec(line)?.[1];
  return (message ?? line).slice(0, 300);
}

/** A running command and its guard. */
export class GuardedProcess {
  /** Resolves, and never rejects, when the command and all its descendants are gone. */
  readonly exited: Promise<string>;
  #ended: string | undefined;

  private constructor(
    readonly options: CommandOptions,
    readonly pid: number,
    private readonly guard: ChildProcess,
    /** Where its part of the log begins. */
    private readonly logStart: number,
    exited: Promise<string>,
  ) {
    this.exited = exited.then((reason) => (this.#ended = reason));
  }

  /** @throws `PB_STACK_START_FAILED` when there is no interpreter or no such command */
  static async start(options: CommandOptions): Promise<GuardedProcess> {
    const log = openSync(options.log, 'a', 0o600);
    const logStart = fstatSync(log).size;
    const flags = ['--signal', options.stopSignal ?? 'TERM', '--grace', String(options.graceSeconds)];
    const remove = (options.remove ?? []).flatMap((path) => ['--remove', path]);
    const guard = spawn(
      options.python,
      ['-I', '-S', installation.guard, ...flags, ...remove, '--', ...options.command],
      {
        detached: true,
        env: options.env,
        stdio: ['pipe', log, log, 'pipe'],
      },
    );
    closeSync(log);
    const exited = new Promise<string>((resolve) => {
      guard.once('error', (problem) => resolve(problem.message));
      guard.once('exit', (code, signal) =>
        resolve(signal === null ? `ended with status ${code ?? 0}` : `its guard was ended by ${signal}`),
      );
    });
    // A guard that died leaves a broken pipe: its exit tells all there is to know.
    guard.stdin?.on('error', () => undefined);
    const pid = await Promise.race([readPid(guard.stdio[3] as Readable | null | undefined), exited]);
    if (typeof pid === 'string') throw failure(options, pid);
    return new GuardedProcess(options, pid, guard, logStart, exited);
  }

  /** Why it ended; undefined while it runs. */
  get ended(): string | undefined {
    return this.#ended;
  }

  /** Whether it, and not whatever ran before, has written these words to its log. */
  hasSaid(words: string): boolean {
    return readFileSync(this.options.log).subarray(this.logStart).includes(words);
  }

  /** Ends it with its grace; resolves when nothing is left. */
  async stop(): Promise<void> {
    this.guard.stdin?.end();
    await this.exited;
  }

  /** Ends it at once; resolves when nothing is left. */
  async kill(): Promise<void> {
    if (this.#ended === undefined) {
      try {
        process.kill(this.pid, 'SIGKILL');
      } catch {
        // it ended by itself
      }
    }
    await this.stop();
  }

  /** The error to throw when it did not get ready. */
  failure(reason: string): PatchbayError {
    return failure(this.options, reason);
  }
}

function failure(options: CommandOptions, reason: string): PatchbayError {
  let tail = '';
  try {
    tail = lastLine(readFileSync(options.log, 'utf8'));
  } catch {
    // no log, no last line
  }
  return error('PB_STACK_START_FAILED', {
    part: options.name,
    reason: tail === '' ? reason : `${reason}: ${tail}`,
    log: options.log,
  });
}

async function readPid(status: Readable | null | undefined): Promise<number | string> {
  if (status == null) return new Promise<string>(() => undefined);
  status.on('error', () => undefined);
  for await (const line of createInterface({ input: status })) {
    const [word, pid] = line.split(' ');
    if (word === 'pid') return Number(pid);
  }
  return new Promise<string>(() => undefined); // the exit tells why
}
