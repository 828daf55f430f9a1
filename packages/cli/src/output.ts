/** Where a command's words go: data to stdout, as text or JSON; everything else to stderr. @module */
import { CATALOGUE, type PatchbayError } from '@patchbay/protocol';
import pc from 'picocolors';

const BAR_WIDTH = 30;
const CLOCK_MS = 500;

const isTerminal = (stream: NodeJS.WritableStream): boolean => 'isTTY' in stream && stream.isTTY === true;

/** Whether stdout takes colours: a terminal, and nobody said NO_COLOR. */
export const coloured = (): boolean => isTerminal(process.stdout) && pc.isColorSupported;

export class Output {
  #lineOpen = false;
  #clock: NodeJS.Timeout | undefined;

  constructor(
    readonly json: boolean,
    private readonly stdout: NodeJS.WritableStream = process.stdout,
    private readonly stderr: NodeJS.WritableStream = process.stderr,
  ) {}

  /** The one object of a command, or one line of a stream. */
  data(value: unknown, text: string | (() => string)): void {
    const shown = this.json ? JSON.stringify(value) : typeof text === 'string' ? text : text();
    this.#endLine();
    if (shown !== '') this.stdout.write(`${shown}\n`);
  }

  /** Text that is data itself, such as logs; nothing is added. */
  raw(text: string): void {
    this.#endLine();
    this.stdout.write(text);
  }

  progress(text: string): void {
    this.#endLine();
    this.stderr.write(`${text}\n`);
  }

  /** As `progress`, of work that goes on: on a terminal its time runs until the next word. */
  working(text: string): void {
    if (!isTerminal(this.stderr)) return this.progress(text);
    this.#endLine();
    const from = Date.now();
    const draw = (): void => {
      const seconds = Math.round((Date.now() - from) / 1_000);
      this.stderr.write(`\r\u001b[K${text}${seconds === 0 ? '' : `  ${seconds} s`}`);
    };
    draw();
    this.#clock = setInterval(draw, CLOCK_MS).unref();
    this.#lineOpen = true;
  }

  /** Long work: a bar that is drawn over itself on a terminal, elsewhere one line at its end. */
  bar(label: string, done: number, total: number, note = ''): void {
    const finished = done >= total;
    if (!isTerminal(this.stderr)) {
      if (finished) this.progress(`${label} ${done}/${total} ${note}`.trimEnd());
      return;
    }
    clearInterval(this.#clock);
    const filled = Math.round((Math.min(done, total) / Math.max(1, total)) * BAR_WIDTH);
    const drawn = `${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)}`;
    this.stderr.write(`\r\u001b[K${label} ${drawn} ${done}/${total} ${note}`.trimEnd());
    this.#lineOpen = true;
    if (finished) this.#endLine();
  }

  #endLine(): void {
    clearInterval(this.#clock);
    if (this.#lineOpen) this.stderr.write('\n');
    this.#lineOpen = false;
  }

  /** Message, place and fix for people; with `--json` also the one error object on stdout. */
  error(problem: PatchbayError): void {
    const { code, message, path, remote } = problem;
    const lines = [`${pc.red('error')} ${message} ${pc.dim(`(${code})`)}`];
    if (path !== undefined) lines.push(`  at   ${path}`);
    if (remote?.line != null) lines.push(`  line ${remote.line} of the source`);
    if (remote?.traceback !== undefined)
      lines.push(
        ...remote.traceback
          .trimEnd()
          .split('\n')
          .map((line) => pc.dim(`  | ${line}`)),
      );
    lines.push(`  fix  ${problem.hint ?? CATALOGUE[code].fix}`);
    this.progress(lines.join('\n'));
    if (this.json) this.stdout.write(`${JSON.stringify(problem)}\n`);
  }
}

/** Columns as wide as their widest cell. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd();
  return [pc.dim(line(header)), ...rows.map(line)].join('\n');
}

/** How long ago, roughly. */
export function age(at: number, now = Date.now()): string {
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}
