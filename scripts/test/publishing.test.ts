/** What would be published: every package packed and checked by publint and attw, the wheel installed in a clean venv. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packPackages, publishedPackages } from '../pack.js';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

const run = (command: string, ...args: string[]): void => {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
  });
  assert.equal(status, 0, `${command} ${args.join(' ')}\n${stdout}${stderr}`);
};

describe('publishing', function () {
  this.timeout(600_000);
  let out: string;
  let tarballs: ReadonlyMap<string, string>;
  before(() => {
    out = mkdtempSync(join(tmpdir(), 'pb-pack-'));
    tarballs = packPackages(publishedPackages(), out);
  });
  after(() => rmSync(out, { recursive: true, force: true }));

  it('packs what is needed and nothing else', () => {
    for (const [name, tarball] of tarballs) {
      const files = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n');
      const inside = files.map((file) => file.replace(/^package\//, ''));
      for (const needed of ['package.json', 'LICENSE', 'README.md'])
        assert.ok(inside.includes(needed), `${name}: no ${needed}`);
      const odd = inside.filter(
        (file) =>
          /^(test|src|node_modules)\/|\.tsbuildinfo$|\.test\.|__pycache__/.test(file) && !file.startsWith('starter/'),
      );
      assert.deepEqual(odd, [], name);
      const manifest = execFileSync('tar', ['-xzOf', tarball, 'package/package.json'], { encoding: 'utf8' });
      assert.doesNotMatch(manifest, /workspace:|catalog:/, name);
    }
  });

  for (const name of publishedPackages()) {
    it(`${name}: exports, types and modules are right`, () => {
      const tarball = tarballs.get(name)!;
      run(join(ROOT, 'node_modules/.bin/publint'), 'run', tarball, '--strict');
      const hasMain = readFileSync(join(ROOT, 'packages', name, 'package.json'), 'utf8').includes('"types"');
      if (hasMain) run(join(ROOT, 'node_modules/.bin/attw'), tarball, '--profile', 'esm-only', '--no-emoji');
    });
  }
});

describe('publishing of the worker', function () {
  this.timeout(600_000);
  let out: string;
  before(() => {
    out = mkdtempSync(join(tmpdir(), 'pb-wheel-'));
  });
  after(() => rmSync(out, { recursive: true, force: true }));

  it('the wheel has the worker and its contract, and runs in a clean venv', () => {
    const venv = join(out, 'venv');
    const uv = join(ROOT, '.venv/bin/uv');
    run(uv, 'build', '--quiet', '--wheel', join(ROOT, 'packages/worker-py'), '--out-dir', out);
    const wheel = join(
      out,
      readdirSync(out).find((file) => file.endsWith('.whl'))!,
    );
    run(join(ROOT, '.venv/bin/python'), '-m', 'venv', '--without-pip', venv);
    run(uv, 'pip', 'install', '--quiet', '--no-deps', '--python', join(venv, 'bin/python'), wheel);
    // 1.5 GB of dependencies come from the checkout's environment, without its own copy of the worker.
    const here = readdirSync(join(venv, 'lib'))[0]!;
    const packages = join(venv, 'lib', here, 'site-packages');
    writeFileSync(join(packages, 'dependencies.pth'), `${join(ROOT, '.venv/lib', here, 'site-packages')}\n`);
    const cwd = join(out, 'empty');
    mkdirSync(cwd);
    const script = `
import importlib.metadata, json, patchbay_protocol, patchbay_worker, patchbay_worker.engine.engine
from patchbay_worker.contract import schema
print(json.dumps([patchbay_worker.__file__, patchbay_protocol.__file__, importlib.metadata.version("patchbay-worker")]))`;
    const env = { PATH: process.env['PATH'] ?? '' };
    const text = execFileSync(join(venv, 'bin/python'), ['-c', script], { cwd, env, encoding: 'utf8' });
    const [worker, protocol, version] = JSON.parse(text) as [string, string, string];
    assert.ok(worker.startsWith(packages) && protocol.startsWith(packages), text);
    assert.equal(
      version,
      (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version,
    );
  });
});
