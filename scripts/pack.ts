/** Packs the packages as they would be published: `node --import tsx scripts/pack.ts <folder>`; tests use it too. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
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

/** Package folder -> tarball in `folder`. */
export function packPackages(names: readonly string[], folder: string): Map<string, string> {
  return new Map(
    names.map((name) => {
      const args = [pnpm, 'pack', '--json', '--pack-destination', folder];
      const text = execFileSync(process.execPath, args, { cwd: join(root, 'packages', name), encoding: 'utf8' });
      const { filename } = JSON.parse(text.slice(text.indexOf('{'))) as { filename: string };
      return [name, resolve(folder, filename)] as const;
    }),
  );
}

if (process.argv[1] !== undefined && pathToFileURL(process.argv[1]).href === import.meta.url) {
  const folder = resolve(process.argv[2] ?? 'out/packages');
  mkdirSync(folder, { recursive: true });
  for (const [name, tarball] of packPackages(publishedPackages(), folder))
    process.stdout.write(`${name}  ${tarball}\n`);
}
