/** Every fault of a document has its code and its path. */
import assert from 'node:assert/strict';
import { MAX_DOCUMENT_BYTES, PatchbayError, formatPath, parseJobDocument } from '../src/index.js';
import { FAULTS, LARGEST, SMALLEST, changed } from './support/documents.js';

function refusal(document: unknown): PatchbayError {
  try {
    parseJobDocument(document);
  } catch (problem) {
    assert.ok(problem instanceof PatchbayError, String(problem));
    return problem;
  }
  assert.fail('the document was accepted');
}

describe('parseJobDocument', () => {
  it('fills in every default', () => {
    assert.deepEqual(parseJobDocument({ ...SMALLEST, hooks: [{ moduleName: 'x' }] }), {
      version: 1,
      model: 'm',
      seed: 0,
      priority: 0,
      labels: {},
      limits: {},
      modules: {},
      hooks: [
        {
          name: 'hook-0',
          moduleName: 'x',
          hookType: 'forward',
          expectedShape: null,
          unpackIdx: 0,
          edit: { kind: 'none' },
          save: 'pre',
          groups: [],
        },
      ],
      runs: [
        {
          name: 'run-0',
          mode: 'forward',
          inputs: { text: ['a'] },
          hooks: { groups: ['all'] },
          return: { logits: 'none', topK: 0 },
        },
      ],
      return: { parameters: [] },
    });
  });

  it('accepts everything that the contract has, and what it gave back', () => {
    const parsed = parseJobDocument(LARGEST);
    assert.deepEqual(
      parsed.runs.map((run) => run.name),
      ['clean', 'run-1', 'story', 'run-3', 'run-4', 'run-5', 'run-6'],
    );
    assert.deepEqual(parseJobDocument(parsed), parsed);
  });

  for (const [at, value, code, path = at, hint] of FAULTS) {
    it(`${at} = ${JSON.stringify(value)?.slice(0, 40)} -> ${code}`, () => {
      const problem = refusal(changed(LARGEST, at, value));
      assert.equal(problem.code, code);
      assert.equal(problem.path, path);
      if (hint !== undefined) assert.match(problem.hint ?? '', hint);
    });
  }

  it('what is no document at all', () => {
    assert.equal(refusal(undefined).code, 'PB_DOCUMENT_INVALID');
    for (const value of [null, 3, 'x', []]) assert.equal(refusal(value).code, 'PB_DOCUMENT_INVALID');
    assert.equal(refusal({}).code, 'PB_DOCUMENT_VERSION');
  });

  it('counts bytes of UTF-8, not characters', () => {
    const withText = (text: string): unknown => changed(SMALLEST, 'runs[0].inputs.text[0]', text);
    const room = MAX_DOCUMENT_BYTES - JSON.stringify(withText('')).length;
    parseJobDocument(withText('x'.repeat(room)));
    assert.equal(refusal(withText('x'.repeat(room + 1))).code, 'PB_DOCUMENT_TOO_LARGE');
    assert.equal(refusal(withText('é'.repeat(Math.floor(room / 2) + 1))).code, 'PB_DOCUMENT_TOO_LARGE');
  });
});

describe('formatPath', () => {
  it('reads as a script would write it', () => {
    assert.equal(formatPath(['runs', 1, 'inputs', 'text', 0]), 'runs[1].inputs.text[0]');
    assert.equal(formatPath([]), '');
  });
});
