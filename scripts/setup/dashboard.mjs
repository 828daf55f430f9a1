// The dashboard's page, built by Vite into packages/dashboard/dist/page; again only when something that it is made of changed.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../packages/cli/setup/run.mjs';
import { digest, readStamp, writeStamp } from '../../packages/cli/setup/stamp.mjs';

const SOURCES = ['dashboard/src', 'dashboard/public', 'charts/src', 'protocol/src', 'sdk/src/tensors'];
const SINGLE = ['packages/dashboard/index.html', 'packages/dashboard/vite.config.ts', 'pnpm-lock.yaml'];

export async function buildPage(root, progress) {
  const folder = join(root, 'packages', 'dashboard');
  const stamp = join(folder, 'dist', '.page-stamp');
  const made = digest(root, sources(root), [process.versions.node]);
  if (existsSync(join(folder, 'dist', 'page', 'index.html')) && readStamp(stamp) === made) return;
  await progress.step('dashboard', async () => {
    const vite = join(root, 'node_modules', 'vite', 'bin', 'vite.js');
    await run(process.execPath, [vite, 'build', '--logLevel', 'warn'], { cwd: folder, progress });
    writeStamp(stamp, made);
  });
}

function sources(root) {
  const below = SOURCES.flatMap((name) => {
    const folder = join(root, 'packages', name);
    return readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((path) => join(folder, path));
  });
  return [...below, ...SINGLE.map((path) => join(root, path))].filter((path) => statSync(path).isFile()).sort();
}
