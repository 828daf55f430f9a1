/** Checks a job document and turns every problem into a typed error with a path and the nearest known key. @module */
import { z } from 'zod';
import { error, type PatchbayError } from './errors.js';
import { DEFAULT_TIMEOUT_MS, jobDocument, limits, MAX_DOCUMENT_BYTES, type JobDocument } from './job.js';
import { nearest } from './nearest.js';

/** `['runs', 1, 'inputs']` -> `runs[1].inputs` */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, part) =>
      typeof part === 'number' ? `${text}[${part}]` : text === '' ? String(part) : `${text}.${String(part)}`,
    '',
  );
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
}

/** Keys that the JSON Schema knows at a path, over all alternatives. */
function knownKeys(path: readonly PropertyKey[]): string[] {
  let level: JsonSchema[] = [z.toJSONSchema(jobDocument, { io: 'input' }) as JsonSchema];
  const spread = (schema: JsonSchema): JsonSchema[] => [
    schema,
    ...[schema.anyOf, schema.oneOf].flatMap((list) => (list ?? []).flatMap(spread)),
  ];
  for (const part of path) {
    level = level.flatMap(spread).flatMap((schema) => {
      const next =
        typeof part === 'number' ? schema.items : (schema.properties?.[String(part)] ?? schema.additionalProperties);
      return typeof next === 'object' ? [next] : [];
    });
  }
  return [...new Set(level.flatMap(spread).flatMap((schema) => Object.keys(schema.properties ?? {})))];
}

/** The issue that says most: those inside a union's best alternative before the union's own. */
function deepest(
  issue: z.core.$ZodIssue,
  base: readonly PropertyKey[] = [],
): { issue: z.core.$ZodIssue; path: PropertyKey[] } {
  const path = [...base, ...issue.path];
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return { issue, path };
  const alternatives = issue.errors.filter((issues) => issues.length > 0).map((issues) => deepest(issues[0]!, path));
  alternatives.sort((a, b) => b.path.length - a.path.length);
  const best = alternatives[0];
  return best !== undefined && best.path.length > path.length ? best : { issue, path };
}

function toError(first: z.core.$ZodIssue): PatchbayError {
  const { issue, path } = deepest(first);
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!;
    const known = knownKeys(path);
    const near = nearest(key, known)[0];
    const hint =
      near === key
        ? `"${key}" belongs to another mode or kind than the one given here.`
        : near === undefined
          ? `Known keys here: ${known.join(', ')}.`
          : `Did you mean "${near}"?`;
    return error('PB_DOCUMENT_UNKNOWN_KEY', { key }, { path: formatPath([...path, key]), hint });
  }
  if (path.length === 1 && path[0] === 'version') {
    return error('PB_DOCUMENT_VERSION', { actual: JSON.stringify(issue.input) ?? 'undefined' }, { path: 'version' });
  }
  return error('PB_DOCUMENT_INVALID', { reason: issue.message }, { path: formatPath(path) });
}

function refuseDuplicates(names: readonly string[], list: string): void {
  names.forEach((name, index) => {
    if (names.indexOf(name) === index) return;
    const reason = `the name "${name}" is taken by ${list}[${names.indexOf(name)}]`;
    throw error('PB_DOCUMENT_INVALID', { reason }, { path: `${list}[${index}].name` });
  });
}

function refuseUnknownHooks(document: JobDocument): void {
  const names = document.hooks.map((hook) => hook.name);
  const groups = new Set(['all', ...document.hooks.flatMap((hook) => hook.groups)]);
  document.runs.forEach((run, index) => {
    const path = `runs[${index}].hooks`;
    for (const [position, hook] of (run.hooks.names ?? []).entries()) {
      if (names.includes(hook)) continue;
      throw error('PB_HOOK_NOT_FOUND', { hook }, { path: `${path}.names[${position}]`, ...near(hook, names) });
    }
    for (const [position, group] of (run.hooks.groups ?? []).entries()) {
      if (groups.has(group)) continue;
      throw error(
        'PB_GROUP_NOT_FOUND',
        { group },
        { path: `${path}.groups[${position}]`, ...near(group, [...groups]) },
      );
    }
  });
}

function near(name: string, known: readonly string[]): { hint?: string } {
  const found = nearest(name, known);
  return found.length === 0 ? {} : { hint: `Did you mean ${found.map((text) => `"${text}"`).join(' or ')}?` };
}

function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? '';
  } catch (cause) {
    throw error(
      'PB_DOCUMENT_INVALID',
      { reason: `it cannot be written as JSON: ${(cause as Error).message}` },
      { cause },
    );
  }
}

/**
 * Checks a job document and fills in its defaults.
 * @throws `PB_DOCUMENT_INVALID`, `PB_DOCUMENT_UNKNOWN_KEY`, `PB_DOCUMENT_VERSION`, `PB_DOCUMENT_TOO_LARGE`,
 *   `PB_HOOK_NOT_FOUND`, `PB_GROUP_NOT_FOUND`
 */
export function parseJobDocument(value: unknown): JobDocument {
  const bytes = Buffer.byteLength(jsonOf(value));
  if (bytes > MAX_DOCUMENT_BYTES) throw error('PB_DOCUMENT_TOO_LARGE', { bytes, limit: MAX_DOCUMENT_BYTES });
  const parsed = jobDocument.safeParse(value, { reportInput: true });
  if (!parsed.success) throw toError(mostBasic(parsed.error.issues));
  const document: JobDocument = {
    ...parsed.data,
    // Names first, also given ones: what was parsed before is parsed to the same text, and so has the same hash.
    hooks: parsed.data.hooks.map(({ name, ...rest }, index) => ({ name: name ?? `hook-${index}`, ...rest })),
    runs: parsed.data.runs.map(({ name, mode = 'forward', ...rest }, index) => ({
      name: name ?? `run-${index}`,
      mode,
      ...rest,
    })) as JobDocument['runs'],
  };
  refuseDuplicates(
    document.hooks.map((hook) => hook.name),
    'hooks',
  );
  refuseDuplicates(
    document.runs.map((run) => run.name),
    'runs',
  );
  refuseUnknownHooks(document);
  return document;
}

const checkedDocument = z.looseObject({ limits });

/**
 * How long a job may take, of a document that was checked when it was submitted: for who only passes it on to who checks the whole.
 * @throws as `parseJobDocument`, for one that was not checked
 */
export function timeoutMsOf(document: unknown): number {
  const read = checkedDocument.safeParse(document);
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = read.success ? read.data.limits : parseJobDocument(document).limits;
  return timeoutMs;
}

/** A wrong version explains everything else that looks wrong, so it is told first. */
function mostBasic(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue {
  return issues.find((issue) => issue.path[0] === 'version') ?? issues[0]!;
}
