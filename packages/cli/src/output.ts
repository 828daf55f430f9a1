/** Where a command's words go: data to stdout, as text or JSON; everything else to stderr. @module */
import { CATALOGUE, type PatchbayError } from '@patchbay/protocol';
import pc from 'picocolors';

export class Output {
  constructor(
    readonly json: boolean,
    private readonly stdout: NodeJS.WritableStream = process.stdout,
    private readonly stderr: NodeJS.WritableStream = process.stderr,
  ) {}

  /** The one object of a command, or one line of a stream. */
  data(value: unknown, text: string | (() => string)): void {
    const shown = this.json ? JSON.stringify(value) : typeof text === 'string' ? text : text();
    if (shown !== '') this.stdout.write(`${shown}\n`);
  }

  /** Text that is data itself, such as logs; nothing is added. */
  raw(text: string): void {
    this.stdout.write(text);
  }

  progress(text: string): void {
    this.stderr.write(`${text}\n`);
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
    this.stderr.write(`${lines.join('\n')}\n`);
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
