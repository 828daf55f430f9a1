/** What the gate runs, in order. A step is one command; steps of a stage are selected together by `--only`. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { countMocha, countPytest, type Counts } from './count-tests.js';
import type { Command } from './run-step.js';

export const STAGES = ['format', 'lint', 'types', 'gen', 'unit', 'integration'] as const;
export type Stage = (typeof STAGES)[number];

export interface Step extends Command {
  readonly stage: Stage;
  readonly name: string;
  /** It starts first, or one core waits for it in the end. */
  readonly longest?: boolean;
  /** Given for runners of tests. */
  readonly count?: (output: string) => Counts;
}

const MINUTE = 60_000;
const WORKER = 'packages/worker-py';
const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const venv = (name: string): string => join(root, '.venv/bin', name);
const node = (name: string): string => join(root, 'node_modules/.bin', name);

/** Tensors on two cores: more threads than one per process only fight each other. */
const env = { OMP_NUM_THREADS: '1' };

function step(stage: Stage, name: string, command: string, args: readonly string[], more: Partial<Step> = {}): Step {
  return { stage, name, command, args, cwd: root, env, limitMs: 10 * MINUTE, ...more };
}

/** Paths below `folder` that end like this, sorted; none when there is no such folder. */
function filesBelow(folder: string, ending: string): string[] {
  const from = join(root, folder);
  if (!existsSync(from)) return [];
  const all = readdirSync(from, { recursive: true, encoding: 'utf8' });
  return all
    .filter((path) => path.endsWith(ending) && !path.includes('node_modules'))
    .map((path) => join(folder, path))
    .sort();
}

/** Python scripts outside the worker's package by their folder, in which they are run and so checked: one finds its neighbours. */
function scriptFolders(): Map<string, string[]> {
  const files = ['models', 'tests', 'bench', 'scripts', 'packages/cli', 'packages/testing'].flatMap((folder) =>
    filesBelow(folder, '.py'),
  );
  const byFolder = new Map<string, string[]>();
  for (const file of files) byFolder.set(dirname(file), [...(byFolder.get(dirname(file)) ?? []), basename(file)]);
  return byFolder;
}

function mocha(
  stage: Stage,
  name: string,
  files: readonly string[],
  more: Partial<Step> & { options?: string[] } = {},
): Step[] {
  const { options = [], ...rest } = more;
  return files.length === 0
    ? []
    : [step(stage, name, node('mocha'), [...options, ...files], { count: countMocha, ...rest })];
}

/** In two parts, since it is the longest: what runs models in worlds of ranks, and the rest. */
function pytest(): Step[] {
  const worlds = ['tests/engine', 'tests/families'];
  const part = (name: string, args: readonly string[], longest = false): Step =>
    step('unit', `pytest ${name}`, venv('pytest'), ['--durations', '15', ...args], {
      cwd: join(root, WORKER),
      count: countPytest,
      limitMs: 30 * MINUTE,
      longest,
    });
  return [part('models', worlds, true), part('the rest', ['tests', ...worlds.map((folder) => `--ignore=${folder}`)])];
}

export function steps(): Step[] {
  const mypy = ['--config-file', join(root, WORKER, 'pyproject.toml'), '--cache-dir', join(root, '.mypy_cache')];
  const packages = readdirSync(join(root, 'packages')).filter((name) =>
    existsSync(join(root, 'packages', name, 'package.json')),
  );
  const apart = filesBelow('tests/multi-node', '.test.ts');
  const integration = filesBelow('tests', '.test.ts').filter((file) => !apart.includes(file));
  return [
    step('format', 'prettier', node('prettier'), ['--check', '--log-level', 'warn', '.']),
    step('format', 'ruff format', venv('ruff'), ['format', '--check', '--quiet', '.']),
    step('lint', 'eslint', node('eslint'), ['--max-warnings', '0', '.']),
    step('lint', 'ruff', venv('ruff'), ['check', '--quiet', '.']),
    step('lint', 'import-linter', venv('lint-imports'), ['--config', 'pyproject.toml', '--no-cache'], {
      cwd: join(root, WORKER),
    }),
    step('lint', 'tidy', process.execPath, ['--import', 'tsx', 'scripts/tidy.ts']),
    step('types', 'tsc', node('tsc'), ['-b']),
    step('types', 'mypy worker-py', venv('mypy'), mypy, { cwd: join(root, WORKER) }),
    ...[...scriptFolders()].map(([folder, files]) =>
      step('types', `mypy ${folder}`, venv('mypy'), [...mypy, ...files], { cwd: join(root, folder) }),
    ),
    step('gen', 'generated files', process.execPath, ['--import', 'tsx', 'scripts/gen.ts', '--check']),
    ...mocha('unit', 'mocha scripts', filesBelow('scripts/test', '.test.ts')),
    ...packages.flatMap((name) => mocha('unit', `mocha ${name}`, filesBelow(`packages/${name}/test`, '.test.ts'))),
    ...pytest(),
    ...mocha('integration', 'mocha tests', integration, {
      options: ['--require', './tests/support/stack.ts', '--timeout', '120000'],
      limitMs: 30 * MINUTE,
    }),
    // hosts and a cluster of their own: the shared stack would only take their cores
    ...mocha('integration', 'mocha tests/multi-node', apart, { options: ['--timeout', '180000'] }),
  ];
}
