/** A job's document as code to run it again. Whatever the document says stays inside strings. @module */
import type { JobDocument } from '../api.js';

export const KINDS = ['TypeScript', 'Python', 'JSON', 'curl'] as const;
export type Kind = (typeof KINDS)[number];

const INDENT = '  ';

/** A literal of JavaScript: texts of many lines as templates. */
function script(value: unknown, depth = 0): string {
  const inner = INDENT.repeat(depth + 1);
  if (typeof value === 'string' && value.includes('\n'))
    return `\`${value.replace(/[\\`]|\$(?=\{)/g, (sign) => `\\${sign}`).replaceAll('\r', '\\r')}\``;
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item !== 'object' || item === null))
      return `[${value.map((item) => script(item)).join(', ')}]`;
    return `[\n${value.map((item) => `${inner}${script(item, depth + 1)},\n`).join('')}${INDENT.repeat(depth)}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    if (entries.length === 0) return '{}';
    const name = (key: string): string =>
      key === '__proto__' ? '["__proto__"]' : /^[A-Za-z_$][\w$]*$/.test(key) ? key : JSON.stringify(key);
    const lines = entries.map(([key, item]) => `${inner}${name(key)}: ${script(item, depth + 1)},\n`);
    return `{\n${lines.join('')}${INDENT.repeat(depth)}}`;
  }
  return JSON.stringify(value);
}

/** A literal of Python: JSON's escapes are Python's, but for half characters outside the first plane, which stay as they are. */
function python(value: unknown, depth = 0): string {
  const inner = INDENT.repeat(depth + 1);
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'string' && value.includes('\n'))
    return `"""${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\r', '\\r').replaceAll('\0', '\\0')}"""`;
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item !== 'object' || item === null))
      return `[${value.map((item) => python(item)).join(', ')}]`;
    return `[\n${value.map((item) => `${inner}${python(item, depth + 1)},\n`).join('')}${INDENT.repeat(depth)}]`;
  }
  if (typeof value === 'object') {
    const lines = Object.entries(value).map(
      ([key, item]) => `${inner}${JSON.stringify(key)}: ${python(item, depth + 1)},\n`,
    );
    return lines.length === 0 ? '{}' : `{\n${lines.join('')}${INDENT.repeat(depth)}}`;
  }
  return JSON.stringify(value);
}

export function copyAs(kind: Kind, document: JobDocument, origin: string): string {
  switch (kind) {
    case 'JSON':
      return `${JSON.stringify(document, null, 2)}\n`;
    case 'TypeScript':
      return [
        "import { Patchbay } from '@patchbay/sdk';",
        '',
        'await using pb = new Patchbay();',
        `const job = await pb.jobs.submit(${script(document)});`,
        'const result = await job.result();',
        'console.dir(result.json.runs, { depth: null });',
        '',
      ].join('\n');
    case 'Python':
      return [
        'import json, os, urllib.request',
        '',
        `document = ${python(document)}`,
        'request = urllib.request.Request(',
        `    ${JSON.stringify(`${origin}/api/jobs`)},`,
        '    data=json.dumps(document).encode(),',
        '    headers={"content-type": "application/json", "authorization": "Bearer " + os.environ.get("PATCHBAY_TOKEN", "")},',
        ')',
        'print(json.load(urllib.request.urlopen(request)))',
        '',
      ].join('\n');
    case 'curl':
      return [
        `curl --fail-with-body ${origin}/api/jobs \\`,
        `  -H "authorization: Bearer $PATCHBAY_TOKEN" -H 'content-type: application/json' \\`,
        "  --data-binary @- <<'END_OF_JOB'",
        // one line, and no line of JSON is the mark
        JSON.stringify(document),
        'END_OF_JOB',
        '',
      ].join('\n');
  }
}
