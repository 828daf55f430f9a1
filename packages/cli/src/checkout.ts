/** Where the parts of this checkout lie: Python, worker, orchestrator, built-in models. Starts nothing. @module */
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE = join(dirname(fileURLToPath(import.meta.url)), '..');
const ROOT = resolve(PACKAGE, '../..');

export const checkout = {
  root: ROOT,
  guard: join(PACKAGE, 'guard/guard.py'),
  bin: join(PACKAGE, 'bin/patchbay.js'),
  orchestrator: join(ROOT, 'packages/orchestrator/dist/main.js'),
  /** Import path of the worker and of its generated code. */
  pythonPath: [join(ROOT, 'packages/worker-py/src'), join(ROOT, 'packages/protocol/gen/py')],
  python: join(ROOT, '.venv/bin/python'),
  models: join(ROOT, 'models'),
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
  const builtIn = join(checkout.models, model);
  return !model.includes('/') && existsSync(join(builtIn, 'config.json')) ? builtIn : model;
}

/** Names of the models that come with the checkout. */
export function builtInModels(): string[] {
  if (!existsSync(checkout.models)) return [];
  return readdirSync(checkout.models).filter((name) => existsSync(join(checkout.models, name, 'config.json')));
}

/** What a deployment is called when nobody says: the last part of its path or hub name. */
export function deploymentName(model: string): string {
  const last = model.replace(/\/+$/, '').split('/').pop() ?? model;
  return last.replace(/[^A-Za-z0-9_.-]/g, '-').slice(0, 64) || 'model';
}
