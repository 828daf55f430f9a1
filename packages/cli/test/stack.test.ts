/** Whole stacks on this machine: several at once, every way to end, and what is left afterwards. */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { errorJson, stackInfo, type StackInfo } from '@patchbay/protocol';
import { installation } from '../src/installation.js';
import { waitFor } from '../src/processes/wait.js';
import { isAlive, readStack } from '../src/stack/keeper.js';
import { makeFolders, stackPaths, type StackPaths } from '../src/stack/paths.js';
import { health } from '../src/stack/services.js';
import { treeOf, type SeenProcess } from './processes.js';
import { temporaryHome } from './temporary-home.js';

const LIMIT_MS = 90_000;

describe('a whole stack', function () {
  this.timeout(240_000);
  const foreground: ChildProcess[] = [];
  const homes = new Set<string>();
  const home = temporaryHome(() => {
    for (const child of foreground.splice(0)) child.kill('SIGKILL');
    for (const path of homes) patchbay(path, 'down');
    homes.clear();
  });

  const environment = (path: string): NodeJS.ProcessEnv => ({ ...process.env, PATCHBAY_HOME: path, NO_COLOR: '1' });
  function patchbay(path: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
    homes.add(path);
    const { status, stdout, stderr } = spawnSync(process.execPath, [installation.bin, ...args], {
      encoding: 'utf8',
      timeout: 120_000,
      env: environment(path),
    });
    return { status, stdout, stderr };
  }
  function upDetached(path: string): StackInfo {
    const { status, stdout, stderr } = patchbay(path, 'up', '--detach', '--json');
    assert.equal(status, 0, stderr);
    return stackInfo.parse(JSON.parse(stdout));
  }
  async function upForeground(
    path: string,
  ): Promise<{ child: ChildProcess; info: StackInfo; exit: Promise<number | string> }> {
    homes.add(path);
    const child = spawn(process.execPath, [installation.bin, 'up', '--json'], {
      env: environment(path),
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    foreground.push(child);
    const exit = new Promise<number | string>((resolve) =>
      child.once('exit', (code, signal) => resolve(code ?? signal ?? 'no code')),
    );
    for await (const line of createInterface({ input: child.stdout }))
      return { child, info: stackInfo.parse(JSON.parse(line)), exit };
    return assert.fail(`up ended: ${await exit}`);
  }
  async function assertGone(tree: readonly SeenProcess[]): Promise<void> {
    await waitFor(() => (tree.some(isAlive) ? undefined : true), { timeoutMs: 30_000 });
    assert.deepEqual(tree.filter(isAlive), []);
  }
  /** The temporary folder of a stack's Ray. */
  function rayFolder(tree: readonly SeenProcess[], expected = true): string {
    const folder = tree
      .map(({ command }) => /--temp-dir=(\S+)/.exec(command)?.[1])
      .find((found) => found !== undefined);
    assert.ok(folder !== undefined && existsSync(folder) === expected);
    return folder;
  }
  const second = (): StackPaths => {
    const paths = stackPaths(join(home().home, 'second'));
    makeFolders(paths);
    return paths;
  };

  it('runs twice at once, but not twice in one home; down of one ends exactly that one', async () => {
    const [one, other] = [upDetached(home().home), upDetached(second().home)];
    for (const key of ['http', 'redisUrl', 'rayAddress', 'gateway', 'token', 'keeperPid'] as const)
      assert.notEqual(one[key], other[key], key);
    assert.deepEqual(one.processes.map(({ name }) => name).sort(), ['gateway', 'orchestrator', 'ray', 'redis']);
    assert.equal(statSync(home().stackFile).mode & 0o777, 0o600);
    const refused = patchbay(home().home, 'up', '--detach', '--json');
    assert.equal(refused.status, 1);
    const problem = errorJson.parse(JSON.parse(refused.stdout));
    assert.equal(problem.code, 'PB_STACK_RUNNING');
    assert.ok(problem.message.includes(String(one.keeperPid)));
    const [tree, otherTree] = [treeOf(one.keeperPid), treeOf(other.keeperPid)];
    const folders = [rayFolder(tree), rayFolder(otherTree)];

    const { status, stdout } = patchbay(home().home, 'down', '--json');
    assert.equal(status, 0);
    assert.equal((JSON.parse(stdout) as { stopped: boolean }).stopped, true);
    assert.deepEqual(tree.filter(isAlive), [], 'down returns when all are gone');
    assert.deepEqual(readdirSync(home().run), []);
    assert.deepEqual(
      otherTree.filter((process) => !isAlive(process)),
      [],
    );
    assert.equal((await health(other.http))?.status, 'ok');

    patchbay(second().home, 'down');
    assert.deepEqual(otherTree.filter(isAlive), []);
    assert.deepEqual(
      folders.filter((folder) => existsSync(folder)),
      [],
    );
  });

  it('ends with 130 on Ctrl-C and leaves nothing', async () => {
    const { child, info, exit } = await upForeground(home().home);
    assert.equal(info.keeperPid, child.pid);
    const tree = treeOf(child.pid!);
    assert.ok(tree.length >= 12, 'guards, parts and what they started');
    child.kill('SIGINT');
    assert.equal(await exit, 130);
    assert.deepEqual(tree.filter(isAlive), []);
    assert.deepEqual(readdirSync(home().run), []);
  });

  it('ends with 130 on Ctrl-C while it starts, and leaves nothing', async () => {
    const child = spawn(process.execPath, [installation.bin, 'up'], {
      env: environment(home().home),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    foreground.push(child);
    const exit = new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal ?? 'no code')));
    let tree: SeenProcess[] = [];
    for await (const line of createInterface({ input: child.stderr })) {
      if (!line.startsWith('redis: ready')) continue;
      tree = treeOf(child.pid!);
      child.kill('SIGINT');
    }
    assert.equal(await exit, 130);
    assert.ok(tree.length >= 4, 'Redis and Ray had been started');
    assert.deepEqual(tree.filter(isAlive), []);
    assert.deepEqual(readdirSync(home().run), []);
  });

  it('leaves nothing when its keeper is killed, and starts again in the same home', async () => {
    const { child, exit } = await upForeground(home().home);
    const tree = treeOf(child.pid!);
    const folder = rayFolder(tree);
    child.kill('SIGKILL');
    assert.equal(await exit, 'SIGKILL');
    await assertGone(tree);
    const gone = await waitFor(() => (existsSync(folder) ? undefined : true), { timeoutMs: 10_000 });
    assert.ok(gone, 'the folder of Ray is deleted');
    assert.equal(readStack(home()), undefined);
    upDetached(home().home);
  });

  it('starts every part again that is killed, with the same addresses for clients', async () => {
    const info = upDetached(home().home);
    for (const name of ['redis', 'gateway', 'orchestrator', 'ray']) {
      const { pid } = readStack(home())!.processes.find((process) => process.name === name)!;
      process.kill(pid, 'SIGKILL');
      const back = await waitFor(
        async () => {
          const now = readStack(home());
          const all = now?.processes.length === 4 && now.processes.every((process) => process.pid !== pid);
          return all && (await health(info.http))?.status === 'ok' ? now : undefined;
        },
        { timeoutMs: LIMIT_MS },
      );
      assert.ok(back !== undefined, `${name} is back: ${readFileSync(home().log('keeper'), 'utf8')}`);
      const { http, redisUrl, gateway, token } = back;
      assert.deepEqual(
        { http, redisUrl, gateway, token },
        { http: info.http, redisUrl: info.redisUrl, gateway: info.gateway, token: info.token },
      );
    }
  });

  it('ends by itself when its home is deleted', async () => {
    const tree = treeOf(upDetached(home().home).keeperPid);
    rmSync(home().home, { recursive: true });
    await assertGone(tree);
    rayFolder(tree, false);
  });

  it('says which part does not start, why, and where its log is; and leaves nothing', () => {
    const python = join(home().home, 'python');
    writeFileSync(python, '#!/bin/sh\nexec python3 -S -E "$@"\n', { mode: 0o755 });
    const { status, stdout, stderr } = patchbay(home().home, 'up', '--python', python, '--json');
    assert.equal(status, 1);
    const problem = errorJson.parse(JSON.parse(stdout));
    assert.equal(problem.code, 'PB_STACK_START_FAILED');
    assert.match(problem.message, /^ray did not start: .*No module named/);
    assert.ok(stderr.includes(home().log('ray')));
    assert.deepEqual(readdirSync(home().run), []);
  });
});
