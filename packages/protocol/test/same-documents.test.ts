/** TypeScript and Python accept and refuse the same documents, with the same codes, and fill in the same defaults. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import fc from 'fast-check';
import { isPatchbayError, parseJobDocument } from '../src/index.js';
import { FAULTS, LARGEST, SMALLEST, changed } from './support/documents.js';

const ROOT = join(import.meta.dirname, '../../..');
const PYTHON = process.env['PATCHBAY_PYTHON'] ?? join(ROOT, '.venv/bin/python');
const RUNS = Number(process.env['PATCHBAY_PROPERTY_RUNS'] ?? 1_000);

const SCRIPT = `
import json, sys
from patchbay_worker.contract import parse_document
from patchbay_worker.errors import PatchbayError
for line in sys.stdin.buffer:
    try:
        answer = {"filled": parse_document(line.rstrip(b"\\n"))}
    except PatchbayError as problem:
        answer = {"code": problem.code, "path": problem.path, "hint": problem.hint}
    print(json.dumps(answer), flush=True)
`;

type Verdict = { readonly filled: unknown } | { readonly code: string; readonly path: string | null };

function here(document: unknown): Verdict {
  try {
    return { filled: JSON.parse(JSON.stringify(parseJobDocument(document))) as unknown };
  } catch (problem) {
    if (isPatchbayError(problem)) return { code: problem.code, path: problem.path ?? null };
    throw problem;
  }
}

class PythonSide {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #stderr = '';

  constructor() {
    const paths = ['packages/worker-py/src', 'packages/protocol/gen/py'].map((path) => join(ROOT, path));
    this.#child = spawn(PYTHON, ['-c', SCRIPT], { env: { ...process.env, PYTHONPATH: paths.join(':') } });
    this.#child.stderr!.on('data', (text) => (this.#stderr += String(text)));
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  async parse(document: unknown): Promise<Verdict> {
    this.#child.stdin!.write(`${JSON.stringify(document)}\n`);
    const line = await this.#lines.next();
    if (line.done === true) assert.fail(`Python ended: ${this.#stderr}`);
    return JSON.parse(line.value) as Verdict;
  }

  close(): void {
    this.#child.stdin!.end();
  }
}

/** Every place in a document, as the path of keys to it. */
function places(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== 'object' || value === null) return [path];
  return [
    path,
    ...Object.entries(value).flatMap(([key, inner]) =>
      places(inner, [...path, Array.isArray(value) ? Number(key) : key]),
    ),
  ];
}

const KEYS = [
  'version',
  'model',
  'kind',
  'source',
  'artifact',
  'names',
  'groups',
  'complement',
  'text',
  'tokenIds',
  'mode',
  'where',
  'positions',
  'from',
  'steps',
  'loss',
  'return',
  'topK',
  'naems',
];

const scalar = fc.oneof(
  fc.constantFrom(
    null,
    true,
    false,
    0,
    1,
    -1,
    0.5,
    16,
    1e21,
    2 ** 32,
    '',
    'forward',
    'python',
    'none',
    'all',
    'é',
    '😀',
    'x\n',
    '__proto__',
    `sha256:${'a'.repeat(64)}`,
  ),
  fc.string({ unit: 'binary', maxLength: 5 }),
  fc.integer(),
);
const anything = fc.oneof(
  { weight: 6, arbitrary: scalar },
  { weight: 1, arbitrary: fc.array(scalar, { maxLength: 3 }) },
  { weight: 1, arbitrary: fc.dictionary(fc.constantFrom(...KEYS), scalar, { maxKeys: 3 }) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      ...places(LARGEST).map((path) =>
        path.reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], LARGEST),
      ),
    ),
  },
);

type Change = readonly [where: number, what: 'set' | 'remove' | 'add', key: string, value: unknown];
const change: fc.Arbitrary<Change> = fc.tuple(
  fc.nat(),
  fc.constantFrom('set', 'remove', 'remove', 'remove', 'add'), // what is left out is good more often than what is put in
  fc.constantFrom(...KEYS),
  anything,
);

function apply(document: unknown, [where, what, key, value]: Change): unknown {
  const copy = structuredClone(document) as Record<string, unknown>;
  const all = places(copy).slice(1);
  const path = all[where % Math.max(1, all.length)];
  if (path === undefined) return copy;
  const last = path.at(-1)!;
  const parent = path
    .slice(0, -1)
    .reduce<unknown>((level, part) => (level as Record<string, unknown>)[part], copy) as Record<
    string | number,
    unknown
  >;
  const target = parent[last];
  if (what === 'add' && typeof target === 'object' && target !== null && !Array.isArray(target))
    (target as Record<string, unknown>)[key] = value;
  else if (what === 'remove' && !Array.isArray(parent)) delete parent[last];
  else parent[last] = value;
  return copy;
}

describe('both languages', function () {
  this.timeout(120_000);
  let python: PythonSide;
  before(() => (python = new PythonSide()));
  after(() => python.close());

  it('tell every fault with the same code and path', async () => {
    const differences: unknown[] = [];
    for (const [at, value] of FAULTS) {
      const document = changed(LARGEST, at, value);
      const [ours, theirs] = [here(document), await python.parse(document)];
      const theirsBare = 'code' in theirs ? { code: theirs.code, path: theirs.path } : theirs;
      if (JSON.stringify(ours) !== JSON.stringify(theirsBare))
        differences.push({ at, value, ours, theirs: theirsBare });
    }
    assert.deepEqual(differences, []);
  });

  it('fill in the same defaults', async () => {
    for (const document of [SMALLEST, LARGEST]) assert.deepEqual(await python.parse(document), here(document));
  });

  it('agree about documents with some things changed at random', async () => {
    let accepted = 0;
    const property = fc.asyncProperty(
      fc.constantFrom(SMALLEST, LARGEST),
      // one change alone is told by its exact code, and is good more often
      fc.oneof(fc.tuple(change), fc.array(change, { minLength: 1, maxLength: 3 })),
      async (base, changes) => {
        const document = changes.reduce<unknown>(apply, base);
        const [ours, theirs] = [here(document), await python.parse(document)];
        if ('filled' in ours) {
          accepted++;
          assert.deepEqual(theirs, ours);
        } else if (!('code' in theirs)) {
          assert.fail(`only Python accepts: ${JSON.stringify(ours)}`);
        } else if (changes.length === 1) {
          assert.equal(theirs.code, ours.code); // of several faults either may be told
        }
      },
    );
    await fc.assert(property, { numRuns: RUNS });
    assert.ok(accepted > RUNS / 20, `only ${accepted} of ${RUNS} were good`);
  });
});
