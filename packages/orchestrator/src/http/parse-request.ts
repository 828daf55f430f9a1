/** Checks the parts of a request against a schema. @module */
import { error, formatPath } from '@patchbay/protocol';
import type { z } from 'zod';

/** @throws `PB_REQUEST_INVALID` with the path of the first wrong value */
export function parseRequest<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw error('PB_REQUEST_INVALID', { reason: issue.message }, { path: formatPath(issue.path) });
}
