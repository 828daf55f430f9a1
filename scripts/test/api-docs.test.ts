/** The reference of the packages can be printed, and nothing in it leads nowhere. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DOCUMENTED, printApiDocs, type Documented } from '../docs/api-docs.js';

describe('reference of the packages', function () {
  this.timeout(300_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'pb-api-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const some = {
    sdk: 'classes/HookFunction.md',
    charts: 'functions/heatmap.md',
    testing: 'functions/startLocalStack.md',
  };
  for (const name of Object.keys(DOCUMENTED) as Documented[]) {
    it(`@patchbay/${name} is printed without a warning`, async () => {
      assert.ok(await printApiDocs(name, join(folder, name)), 'warnings are above; npm run api-docs shows them too');
      assert.match(readFileSync(join(folder, name, some[name]), 'utf8'), /^# (Class|Function): /m);
    });
  }
});
