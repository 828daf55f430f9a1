/**
 * Where the parts of Patchbay lie: Python, worker, orchestrator, built-in models; of a checkout, or of installed packages, whose
 * Python `patchbay setup` makes. Starts nothing.
 * @module
 */
import { existsSync, readFileSync, readdirSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE = join(dirname(fileURLToPath(import.meta.url)), '..');
const ROOT = resolve(PACKAGE, '../..');
const WORKER = join(ROOT, 'packages/worker-py/src');
const inCheckout = existsSync(WORKER);

const { version } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8')) as { version: string };

/** Of a user, or of the machine where root runs it: a sandboxed edit is another user then, who cannot read root's home. */
function dataFolder(): string {
  if (process.getuid?.() === 0) return '/var/lib/patchbay';
  return join(process.env['XDG_DATA_HOME'] ?? join(homedir(), '.local/share'), 'patchbay');
}

const venv = inCheckout ? join(ROOT, '.venv') : join(dataFolder(), version, 'python');

export const installation = {
  inCheckout,
  version,
  /** What makes up for missing parts. */
  setup: inCheckout ? 'npm run setup' : 'patchbay setup',
  guard: join(PACKAGE, 'guard/guard.py'),
  bin: join(PACKAGE, 'bin/patchbay.js'),
  orchestrator: join(
    dirname(createRequire(import.meta.url).resolve('@patchbay/orchestrator/package.json')),
    'dist/main.js',
  ),
  venv,
  python: join(venv, 'bin/python'),
  /** Import path of the worker and of its generated code; installed packages are found without. */
  pythonPath: inCheckout ? [WORKER, join(ROOT, 'packages/protocol/gen/py')] : [],
  /** Versions of all Python packages. */
  constraints: inCheckout ? join(ROOT, 'packages/worker-py/constraints.txt') : join(PACKAGE, 'setup/constraints.txt'),
  models: inCheckout ? join(ROOT, 'models') : join(PACKAGE, 'models'),
} as const;

/** Folders of packages that a virtual environment's interpreter imports from. */
export function sitePackages(python: string): string[] {
  const lib = join(dirname(dirname(python)), 'lib');
  if (!existsSync(lib)) return [];
  return readdirSync(lib)
    .filter((name) => name.startsWith('python3'))
    .map((name) => join(lib, name, 'site-packages'))
    .filter((path) => existsSync(path));
}

/** A built-in model's name or a local path as an absolute path; anything else is a hub name and stays. */
export function resolveModel(model: string, cwd: string = process.cwd()): string {
  const local = isAbsolute(model) ? model : resolve(cwd, model);
  if (/^(\.{1,2}\/|\/|~\/)/.test(model) || existsSync(join(local, 'config.json'))) {
    const path = model.startsWith('~/') ? join(process.env['HOME'] ?? '', model.slice(2)) : local;
    return existsSync(path) ? realpathSync(path) : path;
  }
  const builtIn = join(installation.models, model);
  return !model.includes('/') && existsSync(join(builtIn, 'config.json')) ? builtIn : model;
}

/** Names of the models that come with Patchbay. */
export function builtInModels(): string[] {
  if (!existsSync(installation.models)) return [];
  return readdirSync(installation.models).filter((name) => existsSync(join(installation.models, name, 'config.json')));
}
