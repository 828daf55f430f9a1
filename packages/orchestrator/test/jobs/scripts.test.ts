/** The scripts of a job's steps as Redis functions: there after a restart, done without where they are lost or unknown. */
import assert from 'node:assert/strict';
import { JOB_SCRIPTS } from '@patchbay/protocol';
import type { Redis } from '../../src/redis.js';
import { Scripts } from '../../src/scripts.js';
import { held } from '../support/fake-cluster.js';
import { Rig } from '../support/rig.js';

describe('scripts of jobs', () => {
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start();
    await rig.deploy('m');
  });
  afterEach(() => rig.close());

  /** How often a command was called. */
  const calls = async (command: string): Promise<number> =>
    Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(await rig.client.info('commandstats'))?.[1] ?? 0);

  it('go as functions, which cost no text: submitted, begun, running, completed', async () => {
    const before = await calls('fcall');
    await rig.until(await rig.submit('m'), 'completed');
    assert.equal((await calls('fcall')) - before, 4);
  });

  it('are kept by Redis: in the middle of a job it is killed, and the job goes on in order', async () => {
    const next = held(rig.cluster);
    const id = await rig.submit('m');
    const job = await next();
    job.running();
    await rig.until(id, 'running');
    await rig.redis.kill();
    for (let index = 0; index < 50; index++) job.event({ type: 'log', text: `line ${index}` });
    job.done();
    await rig.redis.start();
    await rig.until(id, 'completed');
    const kinds = (await rig.events(id)).map((event) => (event.type === 'log' ? event.text : event.type));
    const lines = Array.from({ length: 50 }, (_, index) => `line ${index}`);
    assert.deepEqual(kinds, ['state', 'state', 'state', ...lines, 'state']);
    assert.ok((await calls('fcall')) >= 51, 'by functions that nobody loaded again');
  });

  it('are sent as text again when Redis has lost them', async () => {
    await rig.client.function('FLUSH');
    await rig.until(await rig.submit('m'), 'completed');
    await rig.until(await rig.submit('m'), 'completed');
    assert.equal((await rig.client.function('LIST')).length, 1, 'and are there for the next one');
  });

  it('are told of when Redis has lost them', async () => {
    let loads = 0;
    const sometimes = {
      function: async () => {
        if (loads++ > 0) throw new Error('NOPERM');
      },
      fcall: async () => {
        throw new Error('ERR Function not found');
      },
      eval: async () => 'done',
    };
    const told: (string | undefined)[] = [];
    const scripts = new Scripts(sometimes as unknown as Redis, (reason) => told.push(reason));
    await scripts.load();
    assert.equal(await scripts.run([JOB_SCRIPTS[0]!, 0]), 'done');
    await scripts.run([JOB_SCRIPTS[0]!, 0]);
    assert.deepEqual(told, ['NOPERM'], 'once, with the reason');
  });

  it('are sent as text where Redis knows no functions', async () => {
    const said: string[] = [];
    const old = {
      function: async () => {
        throw new Error("ERR unknown command 'FUNCTION'");
      },
      eval: async (script: string) => void said.push(script),
    };
    const scripts = new Scripts(old as unknown as Redis);
    assert.match((await scripts.load()) ?? '', /unknown command/);
    await scripts.run([JOB_SCRIPTS[0]!, 0]);
    assert.deepEqual(said, [JOB_SCRIPTS[0]]);
  });
});
