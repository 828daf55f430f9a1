/**
 * The cells of the example notebook, one after another, as a kernel runs them: under Node, and under Deno where there is one
 * (PATCHBAY_DENO, or on PATH). What a cell ends with is shown by its `Jupyter.display`, as Deno's kernel does.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, TINY_FACTS, connect, sharedStack } from '../support/stack.js';

interface Notebook {
  readonly cells: readonly { readonly cell_type: string; readonly source: readonly string[] }[];
}

/** A last line that is an expression is shown. */
function script({ cells }: Notebook): string {
  const code = cells.filter((cell) => cell.cell_type === 'code').map(({ source }) => source.join(''));
  const shown = code.map((cell) => {
    const lines = cell.split('\n');
    const last = lines.pop()!;
    return [...lines, last.endsWith(';') ? last : `show(${last});`].join('\n');
  });
  const show = `const show = (value: unknown) =>
  console.log('shown ' + JSON.stringify((value as any)?.[Symbol.for('Jupyter.display')]?.() ?? value));`;
  return [show, ...shown].join('\n');
}

const deno = process.env['PATCHBAY_DENO'] ?? 'deno';
const hasDeno = spawnSync(deno, ['--version']).status === 0;
const TSX = join(ROOT, 'node_modules/tsx/dist/loader.mjs');
const RUNTIMES = {
  Node: [process.execPath, '--import', TSX],
  ...(hasDeno && { Deno: [deno, 'run', '-A', '--no-check'] }),
};

describe('the notebook', () => {
  let folder: string;
  before(async () => {
    // Deno takes no TypeScript below node_modules
    const parent = join(ROOT, 'out');
    mkdirSync(parent, { recursive: true });
    folder = mkdtempSync(join(parent, 'notebook-'));
    const notebook = JSON.parse(readFileSync(join(ROOT, 'examples/notebook.ipynb'), 'utf8')) as Notebook;
    writeFileSync(join(folder, 'notebook.mts'), script(notebook));
    await using client = connect();
    await client.models.deploy({ name: 'tiny-facts', model: TINY_FACTS, tp: 2 });
  });
  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    await using client = connect();
    await client.models.undeploy('tiny-facts');
  });

  for (const [name, [command, ...args]] of Object.entries(RUNTIMES)) {
    it(`shows an answer, a heat map and a line under ${name}`, async () => {
      const { redisUrl, http, token } = sharedStack().info;
      const env = { ...process.env, PATCHBAY_REDIS_URL: redisUrl, PATCHBAY_HTTP_URL: http, PATCHBAY_TOKEN: token };
      const child = spawn(command!, [...args, join(folder, 'notebook.mts')], { cwd: folder, env });
      let [output, complaints] = ['', ''];
      child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
      child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text));
      assert.equal(await new Promise((resolve) => child.on('close', resolve)), 0, complaints);
      const shown = [...output.matchAll(/^shown (.*)$/gm)].map(([, json]) => JSON.parse(json!) as unknown);
      const [answer, map, line] = shown as [{ token: string }[], Record<string, string>, Record<string, string>];
      assert.equal(shown.length, 3);
      assert.equal(answer[0]!.token, ' Paris');
      assert.match(map['image/svg+xml']!, /^<svg .*layer 3/s);
      assert.match(map['text/plain']!, /heat map of 4 by 5/);
      assert.match(line['image/svg+xml']!, /^<svg .*Paris/s);
    });
  }
});
