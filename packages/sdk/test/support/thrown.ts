/** The error that a call throws. */
import assert from 'node:assert/strict';
import { isPatchbayError, type ErrorCode, type PatchbayError } from '@patchbay/protocol';

/** Awaits a failure with this code and returns it. */
export async function thrown(call: () => unknown, code: ErrorCode): Promise<PatchbayError> {
  try {
    await call();
  } catch (problem) {
    assert.ok(isPatchbayError(problem), `not a PatchbayError: ${String(problem)}`);
    assert.equal(problem.code, code, problem.message);
    return problem;
  }
  assert.fail(`nothing was thrown, expected ${code}`);
}
