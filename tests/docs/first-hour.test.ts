/**
 * A newcomer's first hour with the packages as they are packed, in a folder outside the checkout: init, up, the first job and its
 * picture, the starter's own test, down. Only declared dependencies can be found there. What the registries would bring (packages
 * of others, Python's 1.5 GB) is linked from the checkout.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { packPackages, packWorker, publishedPackages } from '../../scripts/pack.js';
import { processesNaming } from '../support/processes.js';
import { ROOT } from '../support/stack.js';

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly bin?: Readonly<Record<string, string>>;
}

function link(target: string, path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  if (!existsSync(path)) symlinkSync(realpathSync(target), path);
}

/** As `npm install` of the tarballs and of what their manifests name. */
function installPackages(folder: string): void {
  const modules = join(folder, 'node_modules');
  for (const [name, tarball] of packPackages(publishedPackages(), folder)) {
    const own = join(modules, '@patchbay', name);
    mkdirSync(own, { recursive: true });
    execFileSync('tar', ['-xzf', tarball, '-C', own, '--strip-components=1']);
    const { dependencies = {}, bin = {} } = JSON.parse(readFileSync(join(own, 'package.json'), 'utf8')) as Manifest;
    for (const dependency of Object.keys(dependencies).filter((one) => !one.startsWith('@patchbay/')))
      link(join(ROOT, 'packages', name, 'node_modules', dependency), join(modules, dependency));
    for (const [command, path] of Object.entries(bin)) link(join(own, path), join(modules, '.bin', command));
  }
}

/** The starter's own tools, as its `npm install` brings them. */
function installTools(folder: string): void {
  const modules = join(folder, 'node_modules');
  for (const name of ['tsx', 'typescript', '@types/node']) link(join(ROOT, 'node_modules', name), join(modules, name));
  link(join(ROOT, 'node_modules/tsx/dist/cli.mjs'), join(modules, '.bin/tsx'));
  link(join(ROOT, 'node_modules/typescript/bin/tsc'), join(modules, '.bin/tsc'));
}

/** As `patchbay setup`, with the dependencies of the checkout. */
function installWorker(folder: string): string {
  const venv = join(folder, 'venv');
  const uv = join(ROOT, '.venv/bin/uv');
  execFileSync(join(ROOT, '.venv/bin/python'), ['-m', 'venv', '--without-pip', venv]);
  const python = join(venv, 'bin/python');
  execFileSync(uv, ['pip', 'install', '--quiet', '--no-deps', '--python', python, packWorker(folder)]);
  const packages = (of: string): string =>
    execFileSync(join(of, 'bin/python'), ['-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], {
      encoding: 'utf8',
    }).trim();
  writeFileSync(join(packages(venv), 'dependencies.pth'), `${packages(join(ROOT, '.venv'))}\n`);
  return python;
}

describe('the first hour', function () {
  this.timeout(300_000);
  let folder: string;
  let project: string;
  let env: NodeJS.ProcessEnv;

  before(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'pb-hour-')));
    project = join(folder, 'my-project');
    installPackages(folder);
    installTools(folder);
    const own = Object.entries(process.env).filter(([name]) => !/^(PATCHBAY|npm|PYTHONPATH)/i.test(name));
    env = { ...Object.fromEntries(own), PATCHBAY_PYTHON: installWorker(folder) };
  });
  after(() => {
    if (existsSync(project)) spawnSync('npx', ['patchbay', 'down'], { cwd: project, env, timeout: 60_000 });
    const left = processesNaming(project);
    rmSync(folder, { recursive: true, force: true });
    assert.deepEqual(left, [], 'processes are left');
  });

  function run(command: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
    const cwd = existsSync(project) ? project : folder;
    return spawnSync(command, args, { cwd, env, encoding: 'utf8', timeout: 150_000 });
  }

  it('init writes a project, and says what is next', () => {
    const { status, stdout, stderr } = run('npx', 'patchbay', 'init', 'my-project');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /cd my-project\n +npm install\n +npx patchbay setup .*\n +npx patchbay up --model tiny-facts/);
  });

  it('up without Python names the command that installs it', () => {
    const { status, stderr } = run('npx', 'patchbay', 'up', '--python', '/nowhere/bin/python');
    assert.equal(status, 1);
    assert.match(stderr, /\/nowhere\/bin\/python is missing.*\n.*patchbay setup/);
  });

  it('up brings up a stack with the model that comes along, and tells where to look', () => {
    const { status, stdout, stderr } = run('npx', 'patchbay', 'up', '--model', 'tiny-facts', '--tp', '2', '--detach');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^dashboard +http:\/\/127\.0\.0\.1:\d+\/\?token=\S+$/m);
    assert.match(stdout, /tiny-facts is ready \(pp 1, dp 1, tp 2\)/);
  });

  it('the first job answers and draws its picture', () => {
    const { status, stdout, stderr } = run('npm', 'start');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /token: ' Paris'/);
    assert.match(readFileSync(join(project, 'out/gates.svg'), 'utf8'), /^<svg .*layer by position/s);
  });

  it("the starter's types and test hold", () => {
    const { status, stdout, stderr } = run('npm', 'test');
    assert.equal(status, 0, stdout + stderr);
    assert.match(stdout, /# pass 1\n# fail 0/);
  });
});
