/** Packs the packages as they would be published: `node --import tsx scripts/pack.ts <folder>`; tests use it too. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const pnpm = join(root, '.patchbay/tools/pnpm/node_modules/pnpm/bin/pnpm.mjs');

/** Folders below `packages` that go to the npm registry. */
export function publishedPackages(): string[] {
  return readdirSync(join(root, 'packages')).filter((name) => {
    try {
      const manifest = JSON.parse(readFileSync(join(root, 'packages', name, 'package.json'), 'utf8')) as {
        private?: boolean;
      };
      return manifest.private !== true;
    } catch {
      return false; // the Python package
    }
  });
}

const MODEL = 'models/tiny-facts';
const CONSTRAINTS = 'setup/constraints.txt';

/** What the command needs beside its own files lies in its folder while it is packed. */
function withExtras<T>(name: string, pack: () => T): T {
  if (name !== 'cli') return pack();
  const folder = join(root, 'packages/cli');
  try {
    mkdirSync(join(folder, MODEL), { recursive: true });
    for (const file of readdirSync(join(root, MODEL)).filter((one) => /\.(md|json|safetensors)$/.test(one)))
      copyFileSync(join(root, MODEL, file), join(folder, MODEL, file));
    copyFileSync(join(root, 'packages/worker-py/constraints.txt'), join(folder, CONSTRAINTS));
    return pack();
  } finally {
    for (const path of ['models', CONSTRAINTS]) rmSync(join(folder, path), { recursive: true, force: true });
  }
}

/** Package folder -> tarball in `folder`. */
export function packPackages(names: readonly string[], folder: string): Map<string, string> {
  return new Map(
    names.map((name) => {
      const args = [pnpm, 'pack', '--json', '--pack-destination', folder];
      const cwd = join(root, 'packages', name);
      const text = withExtras(name, () => execFileSync(process.execPath, args, { cwd, encoding: 'utf8' }));
      const { filename } = JSON.parse(text.slice(text.indexOf('{'))) as { filename: string };
      return [name, resolve(folder, filename)] as const;
    }),
  );
}

/** The worker's wheel in `folder`. */
export function packWorker(folder: string): string {
  const args = ['build', '--quiet', '--wheel', join(root, 'packages/worker-py'), '--out-dir', folder];
  execFileSync(join(root, '.venv/bin/uv'), args, { stdio: ['ignore', 'inherit', 'inherit'] });
  return join(
    folder,
    readdirSync(folder).find((file) => file.endsWith('.whl'))!,
  );
}

if (process.argv[1] !== undefined && pathToFileURL(process.argv[1]).href === import.meta.url) {
  const folder = resolve(process.argv[2] ?? 'out/packages');
  mkdirSync(folder, { recursive: true });
  for (const [name, tarball] of packPackages(publishedPackages(), folder))
    process.stdout.write(`${name}  ${tarball}\n`);
  process.stdout.write(`worker  ${packWorker(folder)}\n`);
}
