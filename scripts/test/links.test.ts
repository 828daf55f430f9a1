/** Links between pages lead to files and headings that are there. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** As the usual renderers make it from a heading. */
const anchor = (heading: string): string =>
  heading.toLowerCase().replaceAll('`', '').replaceAll(/[^\p{L}\p{N} _-]/gu, '').trim().replaceAll(' ', '-'); // prettier-ignore

function problems(page: string): string[] {
  const text = readFileSync(join(ROOT, page), 'utf8')
    .replaceAll(/^```[^]*?^```$/gm, '')
    .replaceAll(/`[^`\n]*`/g, '');
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link = '']) => {
    if (/^[a-z]+:/.test(link)) return [];
    const [path = '', heading] = link.split('#');
    const target = path === '' ? join(ROOT, page) : resolve(dirname(join(ROOT, page)), path);
    if (!existsSync(target)) return [`${page}: ${link}`];
    if (heading === undefined) return [];
    const headings = [...readFileSync(target, 'utf8').matchAll(/^#+ (.*)$/gm)].map((match) => anchor(match[1]!));
    return headings.includes(heading) ? [] : [`${page}: ${link}: no such heading`];
  });
}

describe('links', () => {
  it('of all pages lead somewhere', () => {
    const args = ['-c', `safe.directory=${ROOT}`, 'ls-files', '--cached', '--others', '--exclude-standard', '*.md'];
    const pages = execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim().split('\n');
    assert.ok(pages.length > 10);
    assert.deepEqual(pages.filter((page) => existsSync(join(ROOT, page))).flatMap(problems), []);
  });
});
