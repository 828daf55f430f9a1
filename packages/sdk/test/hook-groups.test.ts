/** Sets of hooks by object, list and substring. */
import assert from 'node:assert/strict';
import { HookFunction, HookGroups, isPatchbayError, type ErrorCode } from '@patchbay/sdk';

const hook = (moduleName: string, name?: string): HookFunction =>
  new HookFunction({ moduleName, ...(name !== undefined && { name }) });

describe('hook groups', () => {
  const [a, b, c] = [hook('model.layers.0.mlp'), hook('model.layers.1.mlp', 'late'), hook('model.norm')];
  const refused = (code: ErrorCode, what: () => unknown): void =>
    assert.throws(what, (problem) => isPatchbayError(problem, code));

  it('has every hook in all', () => {
    assert.deepEqual(new HookGroups([a, b]).in('all'), [a, b]);
  });

  it('adds by object, list and substring of module or name', () => {
    const groups = new HookGroups([a, b, c]).add('x', c).add('x', [a]).add('y', 'mlp').add('z', 'late');
    assert.deepEqual(groups.in('x'), [a, c]);
    assert.deepEqual(groups.in('y'), [a, b]);
    assert.deepEqual(groups.in('z'), [b]);
    assert.deepEqual(groups.in('x', 'z'), [a, b, c]);
    assert.deepEqual(groups.outside('y'), [c]);
    assert.deepEqual(groups.names, ['all', 'x', 'y', 'z']);
  });

  it('takes a new hook into all', () => {
    assert.deepEqual(new HookGroups([a]).add('x', b).in('all'), [a, b]);
  });

  it('removes from a group, or from all of them', () => {
    const groups = new HookGroups([a, b, c]).add('x', [a, b]).remove('x', 'layers.0');
    assert.deepEqual(groups.in('x'), [b]);
    assert.deepEqual(groups.remove('all', b).in('x'), []);
    assert.deepEqual(groups.in('all'), [a, c]);
  });

  it('refuses what it does not have', () => {
    const groups = new HookGroups([a]).add('early', a);
    refused('PB_GROUP_NOT_FOUND', () => groups.in('erly'));
    refused('PB_GROUP_NOT_FOUND', () => groups.remove('late', a));
    refused('PB_HOOK_NOT_FOUND', () => groups.add('x', 'attention'));
  });
});
