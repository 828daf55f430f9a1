/** The parts of the set-up that decide what is done again: the lock and the stamps. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const SETUP = new URL('../../packages/cli/setup/', import.meta.url);

describe('set-up', () => {
  let folder: string;
  const children: ChildProcess[] = [];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'setup-'));
  });
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  /** A process that takes the lock, says so, and gives it back when its standard input ends. */
  function locker(): ChildProcess {
    const code = `
      const { takeLock } = await import('${new URL('lock.mjs', SETUP).href}');
      const release = await takeLock('${join(folder, 'lock')}', { note: () => process.stdout.write('waits ') });
      process.stdout.write('has ');
      process.stdin.resume().on('end', release);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    return child;
  }

  async function said(child: ChildProcess): Promise<string> {
    const [text] = (await once(child.stdout!, 'data')) as [Buffer];
    return text.toString().trim();
  }

  it('a second one waits for the first', async () => {
    const first = locker();
    assert.equal(await said(first), 'has');
    const second = locker();
    assert.equal(await said(second), 'waits');
    first.stdin!.end();
    assert.equal(await said(second), 'has');
  });

  it('the lock of a killed process is taken over', async () => {
    const first = locker();
    assert.equal(await said(first), 'has');
    first.kill('SIGKILL');
    await once(first, 'exit');
    assert.ok(existsSync(join(folder, 'lock')));
    assert.equal(await said(locker()), 'has');
  });

  it('a lock whose process id now belongs to another process is taken over', async () => {
    writeFileSync(join(folder, 'lock'), `${process.pid} 1`);
    assert.equal(await said(locker()), 'has');
  });

  it('a digest follows the content of each file and each fact', async () => {
    const { digest } = (await import(new URL('stamp.mjs', SETUP).href)) as {
      digest: (root: string, files: string[], facts?: string[]) => string;
    };
    const [a, b] = [join(folder, 'a'), join(folder, 'b')];
    writeFileSync(a, '1');
    writeFileSync(b, '2');
    const before = digest(folder, [a, b], ['x']);
    assert.equal(digest(folder, [a, b], ['x']), before);
    assert.notEqual(digest(folder, [a, b], ['y']), before);
    writeFileSync(b, readFileSync(a));
    writeFileSync(a, '2');
    assert.notEqual(digest(folder, [a, b], ['x']), before);
  });
});
