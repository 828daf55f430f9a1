/** Prints docs/job-document.md: every field of the job document with type and default, from its JSON Schema. */
import { z } from 'zod';
import { jobDocument, MAX_DOCUMENT_BYTES } from '../packages/protocol/src/job.js';

interface Schema {
  type?: string | string[];
  const?: string | number | boolean | null;
  enum?: unknown[];
  default?: unknown;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: Schema | boolean;
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
}

function typeOf(schema: Schema): string {
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``;
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${JSON.stringify(value)}\``).join(', ');
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives !== undefined) return [...new Set(alternatives.map(typeOf))].join(' or ');
  if (schema.items !== undefined) return `list of ${typeOf(schema.items)}`;
  if (schema.properties !== undefined) return 'object';
  if (typeof schema.additionalProperties === 'object') return `map to ${typeOf(schema.additionalProperties)}`;
  const bounded = schema.minimum !== undefined && schema.minimum !== Number.MIN_SAFE_INTEGER;
  const range = bounded ? ` ≥ ${schema.minimum}` : '';
  return `${String(schema.type ?? 'any')}${range}`;
}

function rows(schema: Schema, path: string): string[] {
  const alternatives = schema.anyOf ?? schema.oneOf ?? [];
  const nested = [
    ...alternatives.flatMap((alternative) => {
      const { kind, mode, op } = alternative.properties ?? {};
      const chosen = kind?.const ?? mode?.const ?? op?.const;
      return rows(alternative, chosen === undefined ? path : `${path}(${String(chosen)})`);
    }),
    ...(schema.items === undefined ? [] : rows(schema.items, `${path}[]`)),
    ...(typeof schema.additionalProperties === 'object' ? rows(schema.additionalProperties, `${path}.<name>`) : []),
  ];
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, value]) => {
    const name = path === '' ? key : `${path}.${key}`;
    const fallback = value.default === undefined ? '' : `\`${JSON.stringify(value.default)}\``;
    const need = schema.required?.includes(key) === true ? 'required' : fallback;
    return [`| \`${name}\` | ${typeOf(value)} | ${need} |`, ...rows(value, name)];
  });
  return [...own, ...nested];
}

/** The page as Markdown. */
export function jobDocumentPage(): string {
  const schema = z.toJSONSchema(jobDocument, { io: 'input' }) as Schema;
  return [
    '# Job document',
    '',
    'Printed by `npm run gen` from `packages/protocol/src/job.ts`, whose comments say what each field means; do not edit.',
    `Strict: unknown keys are refused with their path and the nearest known key. At most ${MAX_DOCUMENT_BYTES} bytes of JSON.`,
    'The JSON Schema is `packages/protocol/schema/job.json`.',
    '',
    '| field | type | default |',
    '|---|---|---|',
    ...rows(schema, ''),
    '',
  ].join('\n');
}
