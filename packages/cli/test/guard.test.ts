/** guard.py: nothing that was started outlives its keeper, however keeper, guard or command end. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { installation } from '../src/installation.js';
import { processStart } from '../src/stack/keeper.js';
import { waitFor } from '../src/processes/wait.js';

const LIMIT = 15_000;

/** A tree like Ray's: the command has a child, and a grandchild that left its session and lost its parent; all ignore SIGTERM. */
const TREE = `
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def note():
    with open(sys.argv[1], "a") as f: f.write(f"{os.getpid()}\\n")
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note(); time.sleep(300)
        os._exit(0)
    note(); time.sleep(300)
note(); time.sleep(300)
`;

describe('guard.py', function () {
  this.timeout(60_000);
  let folder: string;
  let pidFile: string;
  const started: ChildProcess[] = [];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'pb-guard-'));
    pidFile = join(folder, 'pids');
  });
  afterEach(() => {
    for (const child of started.splice(0)) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  const guardCommand = (...args: string[]): string[] => ['-I', '-S', installation.guard, '--grace', '0.2', ...args];
  const startGuard = (...args: string[]): ChildProcess => {
    const child = spawn('python3', guardCommand(...args), {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
    });
    started.push(child);
    return child;
  };
  const tree = ['--', 'python3', '-c', TREE];
  const pidsOfTree = async (): Promise<number[]> => {
    const pids = await waitFor(
      () => {
        const lines = existsSync(pidFile) ? readFileSync(pidFile, 'utf8').split('\n').filter(Boolean).map(Number) : [];
        return lines.length === 3 ? lines : undefined;
      },
      { timeoutMs: LIMIT },
    );
    assert.ok(pids !== undefined, 'the tree is there');
    return pids;
  };
  const assertGone = async (pids: readonly number[]): Promise<void> => {
    await waitFor(() => (pids.every((pid) => processStart(pid) === '') ? true : undefined), { timeoutMs: LIMIT });
    assert.deepEqual(
      pids.filter((pid) => processStart(pid) !== ''),
      [],
      'no process is left',
    );
  };
  const parentOf = (pid: number): number =>
    Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);

  it('ends a tree with a grandchild of another session when stdin closes', async () => {
    const guard = startGuard(...tree, pidFile);
    const pids = await pidsOfTree();
    guard.stdin!.end();
    await assertGone([...pids, guard.pid!]);
  });

  it('ends it on SIGTERM', async () => {
    const guard = startGuard(...tree, pidFile);
    const pids = await pidsOfTree();
    guard.kill('SIGTERM');
    await assertGone([...pids, guard.pid!]);
  });

  it('ends it when the parent is killed, and deletes the folders', async () => {
    const doomed = mkdtempSync(join(folder, 'doomed-'));
    const script = `const { spawn } = require('node:child_process');
      spawn('python3', ${JSON.stringify(guardCommand('--remove', doomed, ...tree, pidFile))}, { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });`;
    const keeper = spawn(process.execPath, ['-e', script], { stdio: 'ignore' });
    started.push(keeper);
    const pids = await pidsOfTree();
    keeper.kill('SIGKILL');
    await assertGone(pids);
    const gone = await waitFor(() => (existsSync(doomed) ? undefined : true), { timeoutMs: LIMIT });
    assert.ok(gone, 'the folder is deleted');
  });

  for (const which of ['outer', 'inner'] as const) {
    it(`ends it when the ${which} guard is killed`, async () => {
      const guard = startGuard(...tree, pidFile);
      const pids = await pidsOfTree();
      const command = Math.min(...pids);
      const inner = parentOf(command);
      assert.equal(parentOf(inner), guard.pid);
      process.kill(which === 'outer' ? guard.pid! : inner, 'SIGKILL');
      await assertGone([...pids, inner, guard.pid!]);
    });
  }

  it('ends what the command leaves behind, and passes its status on', async () => {
    const guard = startGuard('--', 'sh', '-c', 'setsid sleep 300 & echo $! > "$0"; exit 7', pidFile);
    const code = await new Promise((resolve) => guard.once('exit', resolve));
    assert.equal(code, 7);
    await assertGone([Number(readFileSync(pidFile, 'utf8'))]);
  });

  it('passes the end by a signal on, and tells the pid of the command', async () => {
    const guard = startGuard('--', 'sleep', '300');
    const line = await new Promise<string>((resolve) =>
      guard.stdio[3]!.once('data', (data: Buffer) => resolve(data.toString())),
    );
    process.kill(Number(/^pid (\d+)\n$/.exec(line)![1]), 'SIGKILL');
    assert.equal(await new Promise((resolve) => guard.once('exit', resolve)), 128 + 9);
  });

  it('lets the command end by itself within the grace', async () => {
    const guard = startGuard(
      '--signal',
      'INT',
      '--grace',
      '10',
      '--',
      'sh',
      '-c',
      'trap "echo done > $0; exit 3" INT; echo > $0.ready; while :; do sleep 0.05; done',
      pidFile,
    );
    await waitFor(() => (existsSync(`${pidFile}.ready`) ? true : undefined), { timeoutMs: LIMIT });
    guard.stdin!.end();
    assert.equal(await new Promise((resolve) => guard.once('exit', resolve)), 3);
    assert.equal(readFileSync(pidFile, 'utf8'), 'done\n');
  });
});
