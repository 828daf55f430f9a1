/** Commands that need no stack: completion in real shells, a starter project, tensors of a folder. */
import assert from 'node:assert/strict';
import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tensor, writeSafetensors } from '@patchbay/sdk';
import { Output } from '../src/output.js';

const BIN = fileURLToPath(new URL('../bin/patchbay.js', import.meta.url));

describe('commands without a stack', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'pb-commands-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));
  const patchbay = (...args: string[]): SpawnSyncReturns<string> =>
    spawnSync(process.execPath, [BIN, ...args], { cwd: folder, encoding: 'utf8', timeout: 60_000 });

  it('bash completes commands and options by the printed script', () => {
    const script = patchbay('completion', 'bash').stdout;
    const complete = (...words: string[]): string[] => {
      const ask = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _patchbay; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { status, stdout, stderr } = spawnSync('bash', ['-c', `${script}\n${ask}`], { encoding: 'utf8' });
      assert.equal(status, 0, stderr);
      return stdout.trim().split('\n');
    };
    assert.deepEqual(complete('patchbay', 'un'), ['undeploy']);
    assert.ok(complete('patchbay', 'deploy', '--').includes('--replicas'));
    assert.deepEqual(complete('patchbay', 'logs', '--fo'), ['--follow']);
  });

  it('zsh and fish scripts name every command, and another shell is refused', () => {
    const { commands } = { commands: ['up', 'doctor', 'top', 'init'] };
    for (const shell of ['zsh', 'fish']) {
      const { stdout } = patchbay('completion', shell);
      for (const command of commands) assert.match(stdout, new RegExp(`\\b${command}\\b`), `${shell} ${command}`);
    }
    assert.equal(patchbay('completion', 'tcsh').status, 2);
  });

  it('init writes a project once and never over something', () => {
    const project = join(folder, 'mine');
    const { status, stdout } = patchbay('init', 'mine');
    assert.equal(status, 0);
    assert.match(stdout, /npm install[^]*npm test/);
    const own = join(project, 'src/first-job.ts');
    assert.ok(existsSync(own) && existsSync(join(project, 'test/first-job.test.ts')));
    writeFileSync(own, 'changed');
    const again = patchbay('init', 'mine', '--json');
    assert.equal(again.status, 2);
    assert.match((JSON.parse(again.stdout) as { message: string }).message, /first-job\.ts/);
    assert.equal(readFileSync(own, 'utf8'), 'changed');
  });

  it('what cannot be written is told before anything runs, and an empty folder is no result', () => {
    writeFileSync(join(folder, 'job.json'), '{}');
    writeFileSync(join(folder, 'taken'), '');
    for (const args of [
      ['run', 'job.json', '--out', 'taken'],
      ['result', 'some-job', '--out', 'taken/below'],
    ]) {
      const { status, stdout } = patchbay(...args, '--json');
      const { code, message } = JSON.parse(stdout) as { code: string; message: string };
      assert.deepEqual([status, code], [2, 'PB_USAGE']);
      assert.match(message, /taken.* cannot be written/);
    }
    mkdirSync(join(folder, 'empty'));
    const empty = patchbay('show', 'empty');
    assert.equal(empty.status, 2);
    assert.match(empty.stderr, /empty has no tensors/);
  });

  it('show lists tensors and draws one, as text and as a picture', () => {
    const values = new Map([['norms', tensor([[1, 2], [3, 4.5]])]]); // prettier-ignore
    writeFileSync(join(folder, 'save_ctx.safetensors'), writeSafetensors(Object.fromEntries(values)));
    assert.match(patchbay('show', '.').stdout, /save_ctx:norms +float32 +\[2, 2\] +2\.625 +1\.000 +4\.500/);
    const drawn = patchbay('show', '.', 'norms', '--svg', 'norms.svg');
    assert.equal(drawn.status, 0, drawn.stderr);
    assert.match(drawn.stdout, /4\.5/);
    assert.ok(!drawn.stdout.includes('\u001b'), 'no colours where there is no terminal');
    assert.match(readFileSync(join(folder, 'norms.svg'), 'utf8'), /^<svg/);
    const wrong = patchbay('show', '.', 'norm');
    assert.equal(wrong.status, 1);
    assert.match(wrong.stderr, /save_ctx:norms/, 'the near name is told');
  });

  it('a bar redraws itself on a terminal and is one line elsewhere', () => {
    const written = (isTTY: boolean): string => {
      let text = '';
      const stream = { isTTY, write: (more: string) => ((text += more), true) } as unknown as NodeJS.WritableStream;
      const out = new Output(false, stream, stream);
      for (const done of [1, 2, 4]) out.bar('fit', done, 4, 'loss 0.5');
      out.progress('next');
      return text;
    };
    assert.equal(written(false), 'fit 4/4 loss 0.5\nnext\n');
    const live = written(true);
    assert.equal(live.split('\r').length, 4);
    assert.match(live, /█{15}░{15} 2\/4 loss 0\.5/);
    assert.ok(live.endsWith('\nnext\n'));
  });

  it('what goes on shows its time on a terminal, and is one line elsewhere', async () => {
    const written = async (isTTY: boolean): Promise<string> => {
      let [text, tell] = ['', (): void => undefined];
      const timed = new Promise<void>((resolve) => (tell = resolve));
      const write = (more: string): boolean => {
        text += more;
        if (/ 1 s$/.test(more)) tell();
        return true;
      };
      const out = new Output(false, { write } as NodeJS.WritableStream, { isTTY, write } as never);
      out.working('loading');
      if (isTTY) await timed;
      out.data({}, 'ready');
      return text;
    };
    assert.equal(await written(false), 'loading\nready\n');
    const drawn = (await written(true)).split('\r\u001b[K');
    assert.deepEqual([drawn[1], drawn.at(-1)], ['loading', 'loading  1 s\nready\n']);
  });
});
