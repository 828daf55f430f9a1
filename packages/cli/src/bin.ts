/** The `patchbay` command. @module */
import { readFileSync } from 'node:fs';
import { loadCommands } from './commands.js';
import { runCommandLine } from './run-command.js';

// `patchbay jobs | head` closes our stdout early: that is no error.
process.stdout.on('error', (problem: NodeJS.ErrnoException) => {
  if (problem.code === 'EPIPE') process.exit(0);
  throw problem;
});

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
process.exitCode = await runCommandLine(process.argv.slice(2), version, loadCommands);
