/**
 * `npm run translations`: the experiments of docs/how-to/coming-from.md in the other tools, each in a venv of its own, beside
 * ours on the running stack; FlexModel's where PATCHBAY_FLEXMODEL names a checkout of it. Exits 1 when a number differs by more than the order of sums in float32 explains.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

type Numbers = Readonly<Record<string, number>>;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const TOLERANCE = 1e-5; // relative; they run unsharded, we on two ranks
const TOOLS = [
  { name: 'nnsight', package: 'nnsight==0.8.1', script: 'nnsight_side.py' },
  { name: 'transformer-lens', package: 'transformer-lens==4.3.0', script: 'transformer_lens_side.py' },
] as const;

/** The last line of its output; tools print more. */
function numbersOf(command: string, args: readonly string[]): Numbers {
  const text = execFileSync(command, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  return JSON.parse(text.trim().split('\n').at(-1)!) as Numbers;
}

function pythonWith(name: string, requirement: string): string {
  const venv = join(root, '.patchbay/translations', name);
  const python = join(venv, 'bin/python');
  if (existsSync(python)) return python;
  mkdirSync(dirname(venv), { recursive: true });
  execFileSync(join(root, '.venv/bin/python'), ['-m', 'venv', venv], { stdio: 'inherit' });
  const pins = ['torch==2.13.0', 'transformers==5.18.0'];
  execFileSync(python, ['-m', 'pip', 'install', '--quiet', requirement, ...pins], { stdio: 'inherit' });
  return python;
}

const ours = numbersOf(process.execPath, ['--import', 'tsx', 'tests/translations/ours.ts']);
process.stdout.write(`patchbay  ${JSON.stringify(ours)}\n`);
const flexModel = { name: 'flexmodel', python: join(root, '.venv/bin/python'), script: 'flexmodel_side.py' };
const sides = [
  ...(process.env['PATCHBAY_FLEXMODEL'] === undefined ? [] : [flexModel]),
  ...TOOLS.map(({ name, package: requirement, script }) => ({ name, python: pythonWith(name, requirement), script })),
];
for (const { name, python, script } of sides) {
  const theirs = numbersOf(python, [join('tests/translations', script), 'models/tiny-facts']);
  const worst = Math.max(
    ...Object.entries(theirs).map(([key, value]) => Math.abs(ours[key]! - value) / Math.abs(value)),
  );
  const equal = worst <= TOLERANCE;
  process.stdout.write(`${name}  ${JSON.stringify(theirs)}  largest relative difference ${worst.toExponential(1)}\n`);
  if (!equal) process.exitCode = 1;
}
