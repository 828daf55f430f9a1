/**
 * The one class of errors and how one is made from the catalogue. Not here: the codes (error-catalogue.ts).
 * @module
 */
import { z } from 'zod';
import { CATALOGUE, type ErrorCode } from './error-catalogue.js';

type Placeholder<M extends string> = M extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Placeholder<Rest>
  : never;
type Details<C extends ErrorCode> = Record<
  Placeholder<(typeof CATALOGUE)[C]['message']> | Placeholder<(typeof CATALOGUE)[C]['fix']>,
  string | number
>;

const remote = z.object({ type: z.string(), traceback: z.string().optional(), line: z.int().nullish() });

/** The one JSON shape of an error: SDK, CLI `--json`, HTTP and gRPC detail. */
export const errorJson = z.object({
  code: z.enum(Object.keys(CATALOGUE) as [ErrorCode, ...ErrorCode[]]),
  message: z.string(),
  /** Where in the job document, such as `hooks[0].moduleName`. */
  path: z.string().nullish(),
  hint: z.string().nullish(),
  retryable: z.boolean(),
  jobId: z.string().nullish(),
  /** The exception of the user's own code. */
  remote: remote.nullish(),
});
export type ErrorJson = z.infer<typeof errorJson>;

/** What an error may carry besides the details of its message. */
export interface ErrorContext {
  readonly path?: string | undefined;
  readonly hint?: string | undefined;
  readonly jobId?: string | undefined;
  readonly remote?: ErrorJson['remote'];
  readonly cause?: unknown;
}

const BRAND = Symbol.for('patchbay.error');

/** Every error that Patchbay throws. Compare `code`, not the message. */
export class PatchbayError extends Error {
  readonly [BRAND] = true;
  override readonly name = 'PatchbayError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly context: ErrorContext = {},
    readonly retryable: boolean = CATALOGUE[code].retryable,
  ) {
    super(message, context.cause === undefined ? undefined : { cause: context.cause });
  }

  get path(): string | undefined {
    return this.context.path;
  }

  get hint(): string | undefined {
    return this.context.hint;
  }

  get jobId(): string | undefined {
    return this.context.jobId;
  }

  get remote(): ErrorJson['remote'] {
    return this.context.remote;
  }

  get status(): number {
    return CATALOGUE[this.code].status;
  }

  toJSON(): ErrorJson {
    const { path, hint, jobId, remote } = this.context;
    return {
      code: this.code,
      message: this.message,
      retryable: this.retryable,
      ...(path !== undefined && { path }),
      ...(hint !== undefined && { hint }),
      ...(jobId !== undefined && { jobId }),
      ...(remote != null && { remote }),
    };
  }

  /** Rebuilds an error that came over a wire; anything else becomes `PB_INTERNAL`. */
  static fromJson(value: unknown, jobId?: string): PatchbayError {
    const parsed = errorJson.safeParse(value);
    if (!parsed.success)
      return error('PB_INTERNAL', { reason: `unreadable error ${JSON.stringify(value)}` }, { jobId });
    const { code, message, path, hint, retryable, remote } = parsed.data;
    const context = { path: path ?? undefined, hint: hint ?? undefined, jobId: parsed.data.jobId ?? jobId, remote };
    return new PatchbayError(code, message, context, retryable);
  }
}

function fill(template: string, details: Readonly<Record<string, string | number>>): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => String(details[name] ?? whole));
}

/** Makes an error of the catalogue; the compiler asks for exactly the details that its message names. */
export function error<C extends ErrorCode>(code: C, details: Details<C>, context: ErrorContext = {}): PatchbayError {
  const definition = CATALOGUE[code];
  const hint = context.hint ?? fill(definition.fix, details);
  return new PatchbayError(code, fill(definition.message, details), { ...context, hint });
}

/** True for our errors, also when two copies of this package are installed. */
export function isPatchbayError(value: unknown, code?: ErrorCode): value is PatchbayError {
  return (
    typeof value === 'object' &&
    value !== null &&
    BRAND in value &&
    (code === undefined || (value as PatchbayError).code === code)
  );
}

/** Any thrown value as one of ours; unknown ones become `PB_INTERNAL` and keep the cause. */
export function toPatchbayError(value: unknown, jobId?: string): PatchbayError {
  if (isPatchbayError(value)) return value;
  const reason = value instanceof Error ? value.message : String(value);
  return error('PB_INTERNAL', { reason }, { cause: value, jobId });
}
