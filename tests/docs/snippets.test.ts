/** Every TypeScript snippet of the documentation runs as it stands, each in a process of its own, on the shared stack. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, TINY_FACTS, connect, sharedStack } from '../support/stack.js';

interface Snippet {
  readonly page: string;
  readonly line: number;
  readonly code: string;
}

function pages(): string[] {
  const docs = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' });
  const packages = readdirSync(join(ROOT, 'packages')).flatMap((name) =>
    readdirSync(join(ROOT, 'packages', name)).includes('README.md') ? [`packages/${name}/README.md`] : [],
  );
  return [
    'README.md',
    ...packages,
    ...docs.filter((path) => path.endsWith('.md')).map((path) => `docs/${path}`),
  ].sort();
}

function snippets(page: string): Snippet[] {
  const text = readFileSync(join(ROOT, page), 'utf8');
  return [...text.matchAll(/^```ts\n([^]*?)^```$/gm)].map((match) => ({
    page,
    line: text.slice(0, match.index).split('\n').length,
    code: match[1]!,
  }));
}

describe('snippets of the documentation', () => {
  const folder = join(ROOT, 'tests/node_modules/.snippets');
  let run = '';
  before(async () => {
    mkdirSync(folder, { recursive: true });
    run = mkdtempSync(join(folder, 'run-'));
    await using client = connect();
    await client.models.deploy({ name: 'tiny-facts', model: TINY_FACTS, tp: 2 });
  });
  after(async () => {
    rmSync(run, { recursive: true, force: true });
    await using client = connect();
    await client.models.undeploy('tiny-facts');
  });

  const all = pages().flatMap(snippets);
  it('are there', () => assert.ok(all.length >= 10, `only ${all.length}`));

  for (const { page, line, code } of all) {
    it(`${page}:${line}`, async () => {
      const file = join(run, `${page.replaceAll('/', '-')}-${line}.mts`);
      writeFileSync(file, code);
      const { redisUrl, http, token } = sharedStack().info;
      const env = { ...process.env, PATCHBAY_REDIS_URL: redisUrl, PATCHBAY_HTTP_URL: http, PATCHBAY_TOKEN: token };
      const child = spawn(process.execPath, ['--import', join(ROOT, 'node_modules/tsx/dist/loader.mjs'), file], {
        cwd: run,
        env,
      });
      let output = '';
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text: string) => (output += text));
      const status = await new Promise((resolve) => child.on('close', resolve));
      assert.equal(status, 0, output);
    });
  }
});
