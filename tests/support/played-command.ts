/** `patchbay` as a process of its own, on an orchestrator whose ranks are played: for commands that wait for jobs. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { installation } from '../../packages/cli/src/installation.js';
import { Rig, TOKEN } from '../../packages/orchestrator/test/support/rig.js';

/** A command under way. */
export interface Command {
  readonly process: ChildProcess;
  readonly ended: Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }>;
}

export interface Played {
  /** In a test. */
  readonly rig: Rig;
  start(...args: string[]): Command;
}

/** Called in a `describe`: every test has an orchestrator of its own, with a deployment `m`. */
export function played(): Played {
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start();
    await rig.deploy('m');
  });
  afterEach(() => rig.close());
  return {
    get rig() {
      return rig;
    },
    start(...args) {
      const own = { PATCHBAY_HOME: rig.home, PATCHBAY_REDIS_URL: rig.redis.url, PATCHBAY_HTTP_URL: rig.http };
      const child = spawn(process.execPath, [installation.bin, ...args], {
        env: { ...process.env, ...own, PATCHBAY_TOKEN: TOKEN, NO_COLOR: '1' },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const said = Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit') as Promise<[number]>]);
      return { process: child, ended: said.then(([stdout, stderr, [status]]) => ({ status, stdout, stderr })) };
    },
  };
}
