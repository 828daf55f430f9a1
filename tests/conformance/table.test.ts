/** Last of its folder: docs/conformance.md says what has just passed, no more and no less. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { conformancePage, shapeOf } from '../support/conformance-table.js';
import { ROOT } from '../support/stack.js';
import { TOLERANCE } from './cases.js';

describe('docs/conformance.md', () => {
  it('lists what passed', () => {
    const path = join(ROOT, 'docs/conformance.md');
    const page = conformancePage(TOLERANCE, readFileSync(path, 'utf8'));
    if (process.env['PATCHBAY_WRITE_CONFORMANCE'] === '1') writeFileSync(path, page);
    assert.doesNotMatch(page, /not shown/);
    assert.equal(shapeOf(readFileSync(path, 'utf8')), shapeOf(page), 'run `npm run conformance`');
  });
});
