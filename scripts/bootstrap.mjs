// Sets the checkout up: pnpm, Node packages, Python packages, compiled TypeScript. Plain Node without dependencies,
// because it runs before there are any. Run it as often as you like: what is already there costs nothing, an
// interrupted run is picked up by the next. It starts no service and changes nothing outside the checkout but the
// caches of npm, pnpm and uv. `--dev` adds the Python packages that tests and linters need.
import { accessSync, constants, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { takeLock } from '../packages/cli/setup/lock.mjs';
import { installNodePackages, installPnpm } from './setup/node-packages.mjs';
import { installPythonPackages } from './setup/python-packages.mjs';
import { buildPage } from './setup/dashboard.mjs';
import { createProgress, SetupError } from '../packages/cli/setup/progress.mjs';
import { run } from '../packages/cli/setup/run.mjs';

const MINIMUM_NODE = [20, 19];
const BUILT = ['packages/charts', 'packages/sdk', 'packages/orchestrator', 'packages/cli', 'packages/testing'];
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dev = process.argv.includes('--dev');
const unknown = process.argv.slice(2).filter((argument) => argument !== '--dev');

async function main() {
  checkNode();
  if (unknown.length > 0) throw new SetupError(`unknown argument ${unknown[0]}`, 'The only option is --dev.');
  const home = join(root, '.patchbay');
  mkdirSync(join(home, 'logs'), { recursive: true });
  keepCachesInside(home);
  const progress = createProgress(join(home, 'logs', 'setup.log'));
  const release = await takeLock(join(home, 'setup.lock'), progress);
  try {
    const pnpm = await installPnpm(root, progress);
    await installNodePackages(root, pnpm, progress);
    await installPythonPackages(root, dev, progress);
    await progress.step('TypeScript build', () =>
      run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b', ...BUILT], { cwd: root, progress }),
    );
    await buildPage(root, progress);
    progress.finish();
  } finally {
    release();
  }
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const [wantMajor, wantMinor] = MINIMUM_NODE;
  if (major > wantMajor || (major === wantMajor && minor >= wantMinor)) return;
  throw new SetupError(
    `Node ${process.versions.node} is too old: Patchbay needs ${MINIMUM_NODE.join('.')} or newer.`,
    'Install a current Node (nodejs.org, your distribution or a version manager) and run the command again.',
  );
}

/** Where the home folder cannot be written (a service user, a read-only container), the caches go into the checkout. */
function keepCachesInside(home) {
  try {
    accessSync(homedir(), constants.W_OK);
  } catch {
    const cache = join(home, 'cache');
    Object.assign(process.env, {
      HOME: cache,
      XDG_CACHE_HOME: cache,
      XDG_DATA_HOME: cache,
      XDG_STATE_HOME: cache,
      npm_config_cache: join(cache, 'npm'),
    });
    mkdirSync(cache, { recursive: true });
  }
}

main().catch((error) => {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`\nsetup: ${error.message}\n`);
  if (error.fix) process.stderr.write(`       ${error.fix.replaceAll('\n', '\n       ')}\n`);
  process.exitCode = 1;
});
