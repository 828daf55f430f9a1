/** What makes two submissions the same job. */
import assert from 'node:assert/strict';
import { parseJobDocument, queueJobId, queueJobOptions, submission } from '../src/index.js';
import { LARGEST, SMALLEST, changed } from './support/documents.js';

const hashOf = (document: unknown, jobId = 'a', now = 1): string =>
  String(submission(parseJobDocument(document), jobId, { now }).args[1]);

describe('submission', () => {
  it('has the same hash for the same job, whatever the id, the time and the written defaults', () => {
    assert.equal(hashOf(SMALLEST), hashOf({ ...SMALLEST, seed: 0, jobId: 'b' }, 'b', 2));
    assert.equal(hashOf(LARGEST), hashOf(JSON.parse(JSON.stringify(parseJobDocument(LARGEST)))));
    assert.equal(hashOf({ ...SMALLEST, seed: 1 }), hashOf({ seed: 1, ...SMALLEST }), 'order of keys');
  });

  it('has another hash for another job', () => {
    const hashes = [
      SMALLEST,
      { ...SMALLEST, seed: 1 },
      { ...SMALLEST, labels: { a: 'b' } },
      changed(SMALLEST, 'runs[0].inputs.text[0]', 'b'),
      LARGEST,
    ].map((document) => hashOf(document));
    assert.equal(new Set(hashes).size, hashes.length);
  });

  it('takes ids that BullMQ does not', () => {
    assert.equal(queueJobId('a-1'), 'a-1');
    assert.equal(queueJobId('42'), 'id-42');
    assert.equal(queueJobOptions('0', 1).jobId, 'id-0');
  });
});
