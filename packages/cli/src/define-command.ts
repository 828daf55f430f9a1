/**
 * A command is data: summary, arguments as a zod schema, handler. Help, parsing, `--json`, errors and exit codes are
 * done once for all (run-command.ts).
 * @module
 */
import { z } from 'zod';
import type { Config } from './config.js';
import type { Output } from './output.js';

/** How an argument is written; the rest is told by its schema: type, default, description. */
export interface ArgumentMeta {
  /** Taken by position, in the order of the schema. */
  readonly positional?: boolean;
  /** One letter. */
  readonly short?: string;
  /** In help: `--tp <ranks>`. */
  readonly value?: string;
}

type Shape = Record<string, z.ZodType>;

export interface CommandContext<S extends Shape> {
  readonly args: z.output<z.ZodObject<S>>;
  readonly config: Config;
  readonly out: Output;
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
  /** Aborts on the second Ctrl-C, for a command that holds interrupts; others are ended by it. */
  readonly forced: AbortSignal;
  /** From now on the command ends by itself, in time, after the first Ctrl-C. */
  readonly holdInterrupts: () => void;
}

export interface Command<S extends Shape = Shape> {
  readonly name: string;
  readonly summary: string;
  readonly args: S;
  /** Help text below the options. */
  readonly examples?: readonly string[];
  /** Ends with the exit status; undefined is 0. */
  readonly run: (context: CommandContext<S>) => Promise<number | undefined>;
}

/** Keeps the types of the arguments for the handler. */
export function defineCommand<S extends Shape>(command: Command<S>): Command {
  return command as unknown as Command;
}

/** A required argument that is taken by position. */
export const positional = (description: string): z.ZodString =>
  z.string().min(1).describe(description).meta({ positional: true });
export const flag = (description: string, meta: ArgumentMeta = {}): z.ZodDefault<z.ZodBoolean> =>
  z
    .boolean()
    .default(false)
    .describe(description)
    .meta({ ...meta });
export const text = (description: string, meta: ArgumentMeta = {}): z.ZodOptional<z.ZodString> =>
  z
    .string()
    .optional()
    .describe(description)
    .meta({ ...meta });
export const count = (description: string, meta: ArgumentMeta = {}): z.ZodOptional<z.ZodCoercedNumber> =>
  z.coerce
    .number()
    .int()
    .min(1)
    .optional()
    .describe(description)
    .meta({ ...meta });
export const repeated = (description: string, meta: ArgumentMeta = {}): z.ZodOptional<z.ZodArray<z.ZodString>> =>
  z
    .array(z.string())
    .optional()
    .describe(description)
    .meta({ ...meta });
