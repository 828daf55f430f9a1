/**
 * The file of submitters: their API keys, as digests, and what is granted to each. One table per submitter; `*` is everybody
 * else. Not here: who keeps to it (the submission script), the token of the installation (auth.ts).
 * @module
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { error, formatPath, submitterPolicy, type SubmitterPolicy } from '@patchbay/protocol';
import { parse as parseToml } from 'smol-toml';
import { z } from 'zod';

const file = z.record(
  z.string().regex(/^(\*|[A-Za-z0-9_.-]{1,64})$/, 'the name of a submitter has letters, digits, _ . - only'),
  submitterPolicy.extend({
    keySha256: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .optional(),
  }),
);

export interface Submitters {
  readonly policies: ReadonlyMap<string, SubmitterPolicy>;
  /** SHA-256 of a key -> the submitter's name. */
  readonly keys: ReadonlyMap<string, string>;
}

/** @throws `PB_CONFIG_INVALID` naming the file and the entry */
export function readSubmitters(path: string | undefined): Submitters {
  const policies = new Map<string, SubmitterPolicy>();
  const keys = new Map<string, string>();
  if (path === undefined) return { policies, keys };
  for (const [name, { keySha256, ...policy }] of Object.entries(parse(path))) {
    policies.set(name, policy);
    if (keySha256 !== undefined) keys.set(keySha256, name);
  }
  return { policies, keys };
}

function parse(path: string): z.output<typeof file> {
  let value: unknown;
  try {
    value = parseToml(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw error('PB_CONFIG_INVALID', { reason: (cause as Error).message }, { path, cause });
  }
  const parsed = file.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw error('PB_CONFIG_INVALID', { reason: `${formatPath(issue.path)}: ${issue.message}` }, { path });
}

export const digestOfKey = (key: string): string => createHash('sha256').update(key).digest('hex');
