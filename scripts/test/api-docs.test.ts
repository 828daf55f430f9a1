/** The reference of the packages can be printed, and nothing in it leads nowhere; what a docstring lacks is told. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
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

describe('reference of the Python side', () => {
  const checked = (source: string): string => {
    const script = `
import json, pathlib, griffe, docstrings
docstrings.codes.add("PB_KNOWN")
module = griffe.visit("m", pathlib.Path("m.py"), ${JSON.stringify(source)})
page = "".join(docstrings.markdown(module["f"]))
print(json.dumps(docstrings.problems))`;
    const cwd = join(import.meta.dirname, '../docs');
    return execFileSync(join(cwd, '../../.venv/bin/python'), ['-c', script], { cwd, encoding: 'utf8' });
  };

  it('says which parameter, result and error code is not described or not there', () => {
    const source =
      'def f(a: int, *, b: int = 1) -> int:\n    """It adds.\n\n    Args:\n        a: one.\n        c: none.\n\n    Raises:\n        PB_NOWHERE: never.\n    """';
    assert.deepEqual(JSON.parse(checked(source)), [
      'm.f: b is not described',
      'm.f: c is no parameter',
      'm.f: what it returns is not described',
      'm.f: PB_NOWHERE is not in the catalogue',
    ]);
    assert.deepEqual(JSON.parse(checked('def f(a: int) -> None: ...')), [
      'm.f: no docstring',
      'm.f: a is not described',
    ]);
  });

  it('has nothing to say of a docstring with all of it', () => {
    const source =
      'def f(a: int, *b: int) -> int:\n    """It adds.\n\n    Args:\n        a: one.\n        *b: others.\n\n    Returns:\n        The sum.\n\n    Raises:\n        PB_KNOWN: always.\n    """';
    assert.deepEqual(JSON.parse(checked(source)), []);
  });
});
