// A virtual environment with packages in it: uv does the work (both cores, always compiled to bytecode), pip where uv
// cannot be had. Where packages come from is pip's own configuration. Not here: which packages, and when it is done again.
import { existsSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { findPython, probe } from './find-python.mjs';
import { run } from './run.mjs';

const UV = '0.13.9';
const NEEDED_BYTES = 3e9;
const NETWORK = 'Check the connection to the Python package index: python3 -m pip download --no-deps --dest /tmp six';
// Without bytecode every start of a rank pays 10 to 15 s more for its imports.
const IMPORTS =
  'import accelerate, google.protobuf, grpc, jsonschema, psutil, ray, safetensors.torch, torch, transformers';

/** Changes when what is installed is installed in another way. */
export const INSTALLER = UV;
export const HOW_LONG = 'about 1.5 GB, a minute or more the first time';

/** A venv knows its own path: one that was moved here from elsewhere, or whose Python is gone, is made anew. */
export async function makeVenv({ venv, cwd }, progress) {
  const python = join(venv, 'bin', 'python');
  const found = probe(python);
  if (found !== undefined && found.prefix === venv && atLeast(found.version)) return;
  const base = findPython();
  await progress.step(`.venv from ${base.path} ${base.version}`, async () => {
    rmSync(venv, { recursive: true, force: true });
    const args = ['-m', 'venv', ...(base.ensurepip ? [] : ['--without-pip']), venv];
    await run(base.path, args, { cwd, progress, fix: 'On Debian or Ubuntu: apt-get install -y python3-venv' });
    if (!base.ensurepip) await run(base.path, ['-m', 'pip', '--python', python, 'install', 'pip'], { cwd, progress });
  });
  warnOfLittleSpace(venv, progress);
}

/** @param target - arguments of `pip install`; `again` also replaces what seems to be there */
export async function installPackages({ venv, cwd, target, again }, progress) {
  const python = join(venv, 'bin', 'python');
  const options = { cwd, progress, fix: NETWORK };
  const uv = await installUv({ venv, cwd, python }, progress);
  if (uv) {
    const env = { ...process.env, ...(await uvSources(python, cwd)), VIRTUAL_ENV: venv };
    const flags = ['--compile-bytecode', '--reinstall-package', 'patchbay-worker', ...(again ? ['--reinstall'] : [])];
    await run(uv, ['pip', 'install', '--python', python, ...flags, ...target], { ...options, env });
  } else {
    await run(python, ['-m', 'pip', 'install', ...(again ? ['--force-reinstall'] : []), ...target], options);
  }
}

/** Fails with the import that does. */
export async function checkImports({ venv, cwd }, progress, more = '') {
  const fix = `Delete ${venv} and run the command again.`;
  await run(join(venv, 'bin', 'python'), ['-c', `${IMPORTS}${more}`], { cwd, progress, fix });
}

/** uv's path, or '' when it cannot be installed here (no wheel for this machine): pip does the same, slower. */
async function installUv({ venv, cwd, python }, progress) {
  const uv = join(venv, 'bin', 'uv');
  try {
    const version = existsSync(uv) ? await run(uv, ['--version'], { cwd }) : '';
    if (!version.startsWith(`uv ${UV}`)) {
      await run(python, ['-m', 'pip', 'install', '--disable-pip-version-check', `uv==${UV}`], { cwd, progress });
    }
    return uv;
  } catch (error) {
    progress.note(`uv is not to be had, pip takes its place (${error.message.split('\n')[0]})`);
    return '';
  }
}

/** uv does not read pip's configuration: pass on where pip is told to look (a CPU build of torch, a mirror). */
async function uvSources(python, cwd) {
  const text = await run(python, ['-m', 'pip', 'config', 'list'], { cwd });
  const setting = (name) => {
    const lines = text.split('\n').filter(
      (line) =>
        line
          .split('=')[0]
          .replace(/^:env:|^\w+\./, '')
          .replace(/^\./, '') === name,
    );
    const value =
      lines
        .map((line) =>
          line
            .slice(line.indexOf('=') + 1)
            .trim()
            .replace(/^['"]|['"]$/g, ''),
        )
        .at(-1) ?? '';
    return value.split(/\\n|\s+/).filter((part) => part !== '');
  };
  const sources = {
    UV_FIND_LINKS: setting('find-links').join(','),
    UV_EXTRA_INDEX_URL: setting('extra-index-url')
      .filter((url) => !url.startsWith('file:'))
      .join(' '),
    UV_DEFAULT_INDEX: setting('index-url').join(''),
    UV_INDEX_STRATEGY: setting('extra-index-url').length > 0 ? 'unsafe-best-match' : '', // as pip chooses
    SSL_CERT_FILE: setting('cert').join(''),
  };
  return Object.fromEntries(Object.entries(sources).filter(([name, value]) => value !== '' && !process.env[name]));
}

function atLeast(version) {
  return version[0] === 3 && version[1] >= 11;
}

function warnOfLittleSpace(folder, progress) {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize < NEEDED_BYTES)
    progress.note(`only ${((bavail * bsize) / 1e9).toFixed(1)} GB are free here, about 3 are needed`);
}
