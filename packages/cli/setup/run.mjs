// Runs one command of the set-up: output to the log, an error that shows its last lines, a limit on its time.
import { spawn } from 'node:child_process';
import { SetupError } from './progress.mjs';

const LIMIT_MS = 30 * 60_000;
const SHOWN_LINES = 25;

let running;
// Nothing is left behind by a set-up that is stopped; a terminal's Ctrl-C reaches the command anyway.
process.on('exit', () => running?.kill());

/** Resolves with the command's standard output; throws `SetupError` when it cannot start, fails or takes too long. */
export function run(command, args, { cwd, progress, env = process.env, fix = '' }) {
  return new Promise((resolve, reject) => {
    const name = [command.split('/').at(-1), ...args.slice(0, 3)].join(' ');
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    running = child;
    const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
    let stdout = '';
    let all = '';
    const keep = (text) => {
      all += text;
      progress?.log(text);
    };
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      keep(text);
    });
    child.stderr.setEncoding('utf8').on('data', keep);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(new SetupError(`${name}: cannot be started (${error.message})`, fix));
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) return resolve(stdout);
      const shown = all.trimEnd().split('\n').slice(-SHOWN_LINES).join('\n');
      const log = progress ? `\nThe whole output is in ${progress.logPath}` : '';
      reject(new SetupError(`${name}: ended with ${signal ?? `exit code ${code}`}\n${shown}`, `${fix}${log}`.trim()));
    });
  });
}
