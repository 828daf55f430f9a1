/** Closing lines of the runners, as they were printed. */
import assert from 'node:assert/strict';
import { add, countMocha, countPytest } from '../verify/count-tests.js';

describe('count tests', () => {
  const counts = (passed: number, failed: number, skipped: number) => ({ passed, failed, skipped });

  it('mocha', () => {
    assert.deepEqual(countMocha('\n  12 passing (3s)\n  1 pending\n  2 failing\n\n  1) a\n'), counts(12, 2, 1));
    assert.deepEqual(countMocha('  7 passing (40ms)\n'), counts(7, 0, 0));
  });

  it('in colour', () => {
    assert.deepEqual(
      countMocha('\u001b[32m \u001b[0m \u001b[32m 7 passing\u001b[0m\u001b[90m (3s)\u001b[0m\n'),
      counts(7, 0, 0),
    );
    assert.deepEqual(
      countPytest('\u001b[32m\u001b[1m4 passed\u001b[0m\u001b[32m in 0.11s\u001b[0m\n'),
      counts(4, 0, 0),
    );
  });

  it('mocha: the closing lines count, not what a test prints', () => {
    assert.deepEqual(countMocha('  99 passing (1s)\n ok\n  3 passing (2s)\n'), counts(3, 0, 0));
  });

  it('pytest', () => {
    assert.deepEqual(countPytest('....\n4 passed in 0.11s\n'), counts(4, 0, 0));
    assert.deepEqual(countPytest('1 failed, 4 passed, 2 skipped, 1 warning in 71.20s (0:01:11)\n'), counts(4, 1, 2));
    assert.deepEqual(countPytest('==== 3 passed, 2 errors in 1.00s ====\n'), counts(3, 2, 0));
  });

  it('nothing that looks like a closing line', () => {
    assert.deepEqual(countPytest('no tests ran in 0.01s\n'), counts(0, 0, 0));
    assert.deepEqual(countMocha('Error: cannot find module\n'), counts(0, 0, 0));
  });

  it('adds up', () => assert.deepEqual(add(counts(1, 2, 3), counts(10, 20, 30)), counts(11, 22, 33)));
});
