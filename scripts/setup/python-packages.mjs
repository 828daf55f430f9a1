// .venv and the Python packages in it: uv does the work (both cores, always compiled to bytecode), pip where uv cannot
// be had. Versions come from packages/worker-py/constraints.txt; where packages come from is pip's own configuration.
import { existsSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { findPython, probe } from './find-python.mjs';
import { run } from './run.mjs';
import { digest, readStamp, writeStamp } from './stamp.mjs';

const UV = '0.13.9';
const WORKER = 'packages/worker-py';
const GENERATED = 'packages/protocol/gen/py/patchbay_protocol';
const NEEDED_BYTES = 3e9;
const NETWORK = 'Check the connection to the Python package index: python3 -m pip download --no-deps --dest /tmp six';
// Without bytecode every start of a rank pays 10 to 15 s more for its imports.
const IMPORTS =
  'import accelerate, google.protobuf, grpc, jsonschema, psutil, ray, safetensors.torch, torch, transformers';

export async function installPythonPackages(root, dev, progress) {
  const venv = join(root, '.venv');
  const stamp = join(venv, '.patchbay-stamp');
  const unfinished = join(venv, '.patchbay-unfinished');
  // what is generated for Python is installed as a copy
  const generated = readdirSync(join(root, GENERATED)).filter((name) => /\.(py|json)$/.test(name));
  const files = [
    ...['pyproject.toml', 'constraints.txt'].map((file) => join(root, WORKER, file)),
    ...generated.sort().map((name) => join(root, GENERATED, name)),
  ];
  const base = digest(root, files, [root, UV]);
  const [made, kind] = readStamp(stamp).split(' ');
  const python = join(venv, 'bin', 'python');
  dropCopyOfGeneratedCode(venv);
  if (made === base && (kind === 'dev' || !dev) && existsSync(python)) return;

  const wantDev = dev || kind === 'dev';
  const interrupted = existsSync(unfinished);
  await makeVenv(root, venv, python, progress);
  warnOfLittleSpace(venv, progress);
  await progress.step(
    'Python packages',
    async () => {
      rmSync(stamp, { force: true });
      writeStamp(unfinished, base);
      await install(root, python, { dev: wantDev, again: interrupted }, progress);
      dropCopyOfGeneratedCode(venv);
      await run(python, ['-c', IMPORTS], { cwd: root, progress, fix: `Delete ${venv} and run the command again.` });
      writeStamp(stamp, `${base} ${wantDev ? 'dev' : 'run'}`);
      rmSync(unfinished, { force: true });
    },
    kind === undefined ? 'about 1.5 GB, a minute or more the first time' : '',
  );
}

/** An editable install copies what a wheel would hold, and the copy hides what `npm run gen` prints later. */
function dropCopyOfGeneratedCode(venv) {
  const lib = join(venv, 'lib');
  for (const version of existsSync(lib) ? readdirSync(lib) : []) {
    rmSync(join(lib, version, 'site-packages', 'patchbay_protocol'), { recursive: true, force: true });
  }
}

/** A venv knows its own path: one that was moved here from elsewhere, or whose Python is gone, is made anew. */
async function makeVenv(root, venv, python, progress) {
  const found = probe(python);
  if (found !== undefined && found.prefix === venv && atLeast(found.version)) return;
  const base = findPython();
  await progress.step(`.venv from ${base.path} ${base.version}`, async () => {
    rmSync(venv, { recursive: true, force: true });
    const args = ['-m', 'venv', ...(base.ensurepip ? [] : ['--without-pip']), venv];
    await run(base.path, args, { cwd: root, progress, fix: 'On Debian or Ubuntu: apt-get install -y python3-venv' });
    if (!base.ensurepip)
      await run(base.path, ['-m', 'pip', '--python', python, 'install', 'pip'], { cwd: root, progress });
  });
}

async function install(root, python, { dev, again }, progress) {
  const target = ['-e', `${WORKER}${dev ? '[dev]' : ''}`, '-c', `${WORKER}/constraints.txt`];
  const options = { cwd: root, progress, fix: NETWORK };
  const uv = await installUv(root, python, progress);
  if (uv) {
    const env = { ...process.env, ...(await uvSources(python, root)), VIRTUAL_ENV: join(root, '.venv') };
    const flags = ['--compile-bytecode', '--reinstall-package', 'patchbay-worker', ...(again ? ['--reinstall'] : [])];
    await run(uv, ['pip', 'install', '--python', python, ...flags, ...target], { ...options, env });
  } else {
    await run(python, ['-m', 'pip', 'install', ...(again ? ['--force-reinstall'] : []), ...target], options);
  }
}

/** uv's path, or '' when it cannot be installed here (no wheel for this machine): pip does the same, slower. */
async function installUv(root, python, progress) {
  const uv = join(root, '.venv', 'bin', 'uv');
  try {
    const version = existsSync(uv) ? await run(uv, ['--version'], { cwd: root }) : '';
    if (!version.startsWith(`uv ${UV}`)) {
      await run(python, ['-m', 'pip', 'install', '--disable-pip-version-check', `uv==${UV}`], { cwd: root, progress });
    }
    return uv;
  } catch (error) {
    progress.note(`uv is not to be had, pip takes its place (${error.message.split('\n')[0]})`);
    return '';
  }
}

/** uv does not read pip's configuration: pass on where pip is told to look (a CPU build of torch, a mirror). */
async function uvSources(python, root) {
  const text = await run(python, ['-m', 'pip', 'config', 'list'], { cwd: root });
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
