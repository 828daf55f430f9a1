/** Turns the commands' data into a command line: parsing, help, `--json`, errors, exit codes 0, 1, 2, 130. @module */
import { Command as Program, CommanderError, Option } from 'commander';
import { error, formatPath, isPatchbayError, toPatchbayError, type PatchbayError } from '@patchbay/protocol';
import { z } from 'zod';
import { loadConfig, onlySettings, type Settings } from './config.js';
import type { ArgumentMeta, Command } from './define-command.js';
import { Output } from './output.js';

export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** Settings that every command takes. */
const GLOBAL = {
  home: ['--home <dir>', 'state of the stack (PATCHBAY_HOME; default: the nearest .patchbay)'],
  redisUrl: ['--redis-url <url>', 'Redis (PATCHBAY_REDIS_URL; default: the one of the stack)'],
  httpUrl: ['--http-url <url>', 'orchestrator (PATCHBAY_HTTP_URL; default: the one of the stack)'],
  token: ['--token <token>', 'token of the orchestrator (PATCHBAY_TOKEN; default: the one of the stack)'],
} as const satisfies Partial<Record<keyof Settings, readonly [string, string]>>;

const dashed = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

function innermost(schema: z.core.$ZodType): z.core.$ZodType {
  const { def } = schema._zod;
  return 'innerType' in def ? innermost(def.innerType as z.core.$ZodType) : schema;
}

function addArgument(program: Program, key: string, schema: z.ZodType): void {
  const meta = (schema.meta() ?? {}) as ArgumentMeta & { description?: string };
  const description = meta.description ?? '';
  if (meta.positional === true) {
    program.argument(schema.safeParse(undefined).success ? `[${dashed(key)}]` : `<${dashed(key)}>`, description);
    return;
  }
  const { type } = innermost(schema)._zod.def;
  const value = type === 'boolean' ? '' : ` <${meta.value ?? type}>`;
  const option = new Option(
    `${meta.short === undefined ? '' : `-${meta.short}, `}--${dashed(key)}${value}`,
    description,
  );
  if (type === 'array') option.argParser((one: string, before: string[] | undefined) => [...(before ?? []), one]);
  program.addOption(option);
}

function describe(program: Program, command: Command, run: (given: Record<string, unknown>) => Promise<void>): void {
  const sub = program.command(command.name).summary(command.summary).description(command.summary);
  const positionals = Object.entries(command.args).filter(
    ([, schema]) => (schema.meta() as ArgumentMeta | undefined)?.positional === true,
  );
  for (const [key, schema] of Object.entries(command.args)) addArgument(sub, key, schema);
  sub.option('--json', 'data as JSON on stdout');
  for (const [flags, description] of Object.values(GLOBAL)) sub.option(flags, description);
  if (command.examples !== undefined)
    sub.addHelpText('after', `\nExamples:\n${command.examples.map((line) => `  ${line}`).join('\n')}`);
  sub.action(async (...values: unknown[]) => {
    const options = values[positionals.length] as Record<string, unknown>;
    await run({ ...options, ...Object.fromEntries(positionals.map(([key], index) => [key, values[index]])) });
  });
}

/** Long options of a command, as its help has them. */
export function optionsOf(command: Command): string[] {
  const own = Object.entries(command.args).filter(
    ([, schema]) => (schema.meta() as ArgumentMeta | undefined)?.positional !== true,
  );
  const common = Object.keys(GLOBAL).filter((key) => !own.some(([name]) => name === key));
  return [...own.map(([key]) => key), ...common, 'json', 'help'].map((key) => `--${dashed(key)}`);
}

const usage = (reason: string, command: string): PatchbayError => error('PB_USAGE', { reason, command });

function parseArguments(command: Command, given: Record<string, unknown>): Record<string, unknown> {
  const own = Object.fromEntries(Object.keys(command.args).map((key) => [key, given[key]]));
  const parsed = z.strictObject(command.args).safeParse(own);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw usage(`${dashed(formatPath(issue.path))}: ${issue.message}`, command.name);
}

/** First Ctrl-C: abort. Second: at once, unless the command ends something itself. */
function interrupts(): { signal: AbortSignal; forced: AbortSignal; hold: () => void; release: () => void } {
  const [first, second] = [new AbortController(), new AbortController()];
  let held = false;
  const onSignal = (): void => {
    if (!first.signal.aborted) return first.abort();
    if (!held || second.signal.aborted) process.exit(EXIT.interrupted);
    second.abort();
  };
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of names) process.on(name, onSignal);
  return {
    signal: first.signal,
    forced: second.signal,
    hold: () => (held = true),
    release: () => names.forEach((name) => process.off(name, onSignal)),
  };
}

async function execute(command: Command, given: Record<string, unknown>): Promise<number> {
  const out = new Output(given['json'] === true);
  const stop = interrupts();
  try {
    const args = parseArguments(command, given);
    const global = Object.fromEntries(Object.keys(GLOBAL).map((key) => [key, given[key]]));
    const config = await loadConfig({ ...global, ...onlySettings(args) });
    const status = await command.run({
      args,
      config,
      out,
      signal: stop.signal,
      forced: stop.forced,
      holdInterrupts: stop.hold,
    });
    return stop.signal.aborted ? EXIT.interrupted : (status ?? EXIT.ok);
  } catch (problem) {
    if (stop.signal.aborted) {
      out.progress('interrupted');
      return EXIT.interrupted;
    }
    out.error(toPatchbayError(problem));
    if (process.env['PATCHBAY_DEBUG'] !== undefined) console.error(problem);
    return isPatchbayError(problem, 'PB_USAGE') ? EXIT.usage : EXIT.failed;
  } finally {
    stop.release();
  }
}

/** The exit status of a command line. `load` gives the named command, or all of them for help. */
export async function runCommandLine(
  argv: readonly string[],
  version: string,
  load: (name?: string) => Promise<readonly Command[]>,
): Promise<number> {
  const json = argv.includes('--json');
  let status: number = EXIT.ok;
  const program = new Program('patchbay')
    .description('Read and edit the activations of a sharded language model.')
    .version(version)
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({ writeErr: (words) => void (json || process.stderr.write(words)) });
  const name = argv.find((word) => !word.startsWith('-'));
  for (const command of await load(name))
    describe(program, command, async (given) => void (status = await execute(command, given)));
  for (const sub of program.commands)
    sub.exitOverride().copyInheritedSettings(program).showHelpAfterError(`(patchbay ${sub.name()} --help)`);
  try {
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync([...argv], { from: 'user' });
  } catch (problem) {
    if (!(problem instanceof CommanderError)) throw problem;
    if (problem.exitCode === 0) return EXIT.ok;
    if (json) new Output(true).error(usage(problem.message.replace(/^error: /, ''), name ?? ''));
    return EXIT.usage;
  }
  return argv.length === 0 ? EXIT.usage : status;
}
