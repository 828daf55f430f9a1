/** The catalogue and the errors made from it. */
import assert from 'node:assert/strict';
import { CATALOGUE, PatchbayError, error, errorJson, isPatchbayError, toPatchbayError } from '../src/index.js';

describe('errors', () => {
  it('every entry is fit to be read', () => {
    for (const [code, { status, message, fix }] of Object.entries(CATALOGUE)) {
      assert.match(code, /^PB(_[A-Z0-9]+)+$/);
      assert.ok(status >= 400 && status < 600, code);
      assert.match(message, /^[^.]+.*[^.\s]$/, `${code}: a message is no sentence`);
      assert.match(fix, /\.$/, `${code}: a fix is a sentence`);
    }
  });

  it('fills in the details, keeps what is not there, and is not fooled by values', () => {
    const problem = error(
      'PB_EDIT_FAILED',
      { hook: 'svd', type: 'ValueError', text: 'not {hook}' },
      { path: 'hooks[0].edit' },
    );
    assert.equal(problem.message, 'the editing function of hook svd raised ValueError: not {hook}');
    assert.equal(problem.status, 422);
    assert.equal(problem.retryable, false);
  });

  it('survives a wire', () => {
    const remote = { type: 'ValueError', traceback: 'Traceback ...', line: 3 };
    const sent = error(
      'PB_EDIT_FAILED',
      { hook: 'h', type: 'ValueError', text: 't' },
      { path: 'hooks[0].edit', jobId: 'j', remote },
    );
    const json: unknown = JSON.parse(JSON.stringify(sent));
    assert.ok(errorJson.safeParse(json).success);
    const back = PatchbayError.fromJson(json);
    assert.deepEqual(back.toJSON(), sent.toJSON());
    assert.equal(PatchbayError.fromJson({ code: 'PB_INTERNAL', message: 'm', retryable: true }, 'j2').jobId, 'j2');
    assert.equal(PatchbayError.fromJson({ code: 'PB_FROM_THE_FUTURE', message: 'm' }).code, 'PB_INTERNAL');
    assert.equal(PatchbayError.fromJson('nonsense').code, 'PB_INTERNAL');
  });

  it('is known across copies of the package, and wraps everything else', () => {
    const foreign = { [Symbol.for('patchbay.error')]: true, code: 'PB_ABORTED' };
    assert.ok(isPatchbayError(foreign, 'PB_ABORTED'));
    assert.ok(!isPatchbayError(foreign, 'PB_INTERNAL'));
    assert.ok(!isPatchbayError(new Error('x')));
    assert.ok(!isPatchbayError(null));
    const cause = new TypeError('boom');
    const wrapped = toPatchbayError(cause, 'j');
    assert.deepEqual([wrapped.code, wrapped.cause, wrapped.jobId], ['PB_INTERNAL', cause, 'j']);
    const own = error('PB_ABORTED', {});
    assert.equal(toPatchbayError(own), own);
  });
});
