/** The examples that the demo does not run give the right answer. */
import assert from 'node:assert/strict';
import type { Patchbay } from '@patchbay/sdk';
import { attribute } from '../../examples/04-attribution.js';
import { connect, deploymentOf } from '../support/stack.js';

describe('examples', () => {
  let client: Patchbay;
  before(() => {
    client = connect();
  });
  after(() => client.close());

  it('attribution finds the country in the first layer and the last position in the last one', async () => {
    const { tokens, scores } = await attribute(client, deploymentOf(2), {
      clean: 'The capital of France is',
      corrupted: 'The capital of Italy is',
      target: ' Paris',
      foil: ' Rome',
    });
    const largest = (row: readonly number[]): number => row.indexOf(Math.max(...row));
    assert.equal(scores.length, 4);
    assert.equal(tokens[largest(scores[0]!)]?.trim(), 'Italy');
    assert.equal(largest(scores[3]!), tokens.length - 1);
  });
});
