/** Prints docs/reference/cli.md from the table of commands: the same data that help and completion are made of. */
import type { z } from 'zod';
import { loadCommands } from '../packages/cli/src/commands.js';
import type { ArgumentMeta, Command } from '../packages/cli/src/define-command.js';

const dashed = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

function argument([key, schema]: [string, z.ZodType]): string {
  const meta = (schema.meta() ?? {}) as ArgumentMeta & { description?: string };
  const optional = schema.safeParse(undefined).success;
  const flag = `--${dashed(key)}${meta.value === undefined ? '' : ` <${meta.value}>`}`;
  const place = optional ? `[${dashed(key)}]` : `<${dashed(key)}>`;
  const short = meta.short === undefined ? '' : `-${meta.short}, `;
  return `| \`${meta.positional === true ? place : short + flag}\` | ${(meta.description ?? '').replaceAll('|', '\\|')} |`;
}

function section({ name, summary, args, examples = [] }: Command): string[] {
  const rows = Object.entries(args).map(argument);
  return [
    `## ${name}`,
    '',
    `${summary}.`,
    '',
    ...(rows.length === 0 ? [] : ['| argument | |', '|---|---|', ...rows, '']),
    ...(examples.length === 0 ? [] : ['```sh', ...examples, '```', '']),
  ];
}

/** The page as Markdown. */
export async function cliPage(): Promise<string> {
  const commands = await loadCommands();
  return [
    '# Commands',
    '',
    'Printed by `npm run gen` from `packages/cli/src/commands`; do not edit. Every command also takes `--json`, `--home`,',
    '`--redis-url`, `--http-url` and `--token`. Data goes to stdout, progress to stderr.',
    'Exit codes: 0 ok, 1 failed, 2 usage, 130 interrupted.',
    '',
    ...commands.flatMap(section),
  ].join('\n');
}
