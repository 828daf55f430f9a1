// pnpm itself (a pinned version under .patchbay/tools) and the Node packages of the lock file.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../packages/cli/setup/run.mjs';
import { digest, readStamp, writeStamp } from '../../packages/cli/setup/stamp.mjs';

const PNPM = '12.21.0';
const NETWORK = 'Check the connection to the npm registry (npm ping), or a mirror set by: npm config set registry ...';

/** Resolves with the path of pnpm's start script. Nothing is installed globally. */
export async function installPnpm(root, progress) {
  const tools = join(root, '.patchbay', 'tools');
  const folder = join(tools, 'pnpm');
  const script = join(folder, 'node_modules', 'pnpm', 'bin', 'pnpm.mjs');
  if (existsSync(script) && readStamp(join(folder, '.version')) === PNPM) return script;
  await progress.step(`pnpm ${PNPM}`, async () => {
    const unfinished = join(tools, `.pnpm-${process.pid}`);
    mkdirSync(unfinished, { recursive: true });
    try {
      const args = ['install', '--prefix', unfinished, '--no-save', '--no-audit', '--no-fund', '--ignore-scripts'];
      await run('npm', [...args, `pnpm@${PNPM}`], { cwd: root, progress, fix: NETWORK });
      writeStamp(join(unfinished, '.version'), PNPM);
      rmSync(folder, { recursive: true, force: true });
      renameSync(unfinished, folder);
    } finally {
      rmSync(unfinished, { recursive: true, force: true });
    }
  });
  return script;
}

export async function installNodePackages(root, pnpm, progress) {
  const stamp = join(root, 'node_modules', '.patchbay-stamp');
  const made = digest(root, manifests(root), [process.versions.modules]);
  if (readStamp(stamp) === made) return;
  await progress.step('Node packages', async () => {
    rmSync(stamp, { force: true });
    await run(process.execPath, [pnpm, 'install', '--frozen-lockfile'], {
      cwd: root,
      progress,
      env: { ...process.env, CI: 'true' }, // never asks
      fix: `${NETWORK}\nAfter a change of dependencies: npm run deps, and commit pnpm-lock.yaml.`,
    });
    writeStamp(stamp, made);
  });
}

function manifests(root) {
  const folders = [
    '.',
    'examples',
    'tests',
    'bench',
    ...readdirSync(join(root, 'packages')).map((p) => `packages/${p}`),
  ];
  const files = ['pnpm-lock.yaml', 'pnpm-workspace.yaml', ...folders.map((folder) => `${folder}/package.json`)];
  return files.map((file) => join(root, file)).filter((file) => existsSync(file));
}
