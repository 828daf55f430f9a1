/** Who waits for a replica that lost a job gets it when its time is over, whatever the clock and other replicas do. */
import assert from 'node:assert/strict';
import { mock } from 'node:test';
import type { GangConnection } from '../../src/cluster-client/gang.js';
import { ReplicaPool } from '../../src/placement/claim.js';

const SUSPECT_MS = 3_000;
const LIMIT_MS = 60_000;
const { signal } = new AbortController();
const gang = (usable: boolean): GangConnection => ({ usable }) as unknown as GangConnection;

describe('a replica that lost a job', () => {
  let clock: number;
  /** Whether the clock moves on with every look at it. */
  let creeps: boolean;
  let pool: ReplicaPool;
  let lent: boolean;
  beforeEach(async () => {
    [clock, creeps, lent] = [1_000_000, false, false];
    mock.timers.enable({ apis: ['setTimeout'] });
    mock.method(Date, 'now', () => (creeps ? clock++ : clock));
    pool = new ReplicaPool('m');
  });
  afterEach(() => {
    mock.timers.reset();
    mock.restoreAll();
  });

  async function loseOne(gangs: readonly GangConnection[]): Promise<void> {
    pool.update(gangs);
    (await pool.claim(signal, LIMIT_MS)).release(true);
    void pool.claim(signal, LIMIT_MS).then(() => (lent = true));
  }
  async function pass(ms: number): Promise<void> {
    mock.timers.tick(ms);
    await new Promise(setImmediate);
  }

  it('is lent when its time is over, and not before', async () => {
    await loseOne([gang(true)]);
    clock += SUSPECT_MS - 1;
    await pass(SUSPECT_MS - 1);
    assert.equal(lent, false);
    clock += 1;
    await pass(1);
    assert.equal(lent, true);
  });

  it('is lent also where the timer is a little early', async () => {
    await loseOne([gang(true)]);
    clock += SUSPECT_MS - 1;
    creeps = true;
    await pass(SUSPECT_MS);
    await pass(1);
    assert.equal(lent, true);
  });

  it('is lent beside one that cannot be used', async () => {
    await loseOne([gang(true), gang(false)]);
    clock += SUSPECT_MS;
    await pass(SUSPECT_MS);
    assert.equal(lent, true);
  });
});
