// .venv and the Python packages in it, from packages/worker-py with the versions of its constraints.txt. How they are
// installed: packages/cli/setup.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  HOW_LONG,
  INSTALLER,
  checkImports,
  installPackages,
  makeVenv,
} from '../../packages/cli/setup/python-environment.mjs';
import { digest, readStamp, writeStamp } from '../../packages/cli/setup/stamp.mjs';

const WORKER = 'packages/worker-py';
const GENERATED = 'packages/protocol/gen/py/patchbay_protocol';

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
  const base = digest(root, files, [root, INSTALLER]);
  const [made, kind] = readStamp(stamp).split(' ');
  dropCopyOfGeneratedCode(venv);
  if (made === base && (kind === 'dev' || !dev) && existsSync(join(venv, 'bin', 'python'))) return;

  const wantDev = dev || kind === 'dev';
  const again = existsSync(unfinished);
  const environment = { venv, cwd: root };
  await makeVenv(environment, progress);
  await progress.step(
    'Python packages',
    async () => {
      rmSync(stamp, { force: true });
      writeStamp(unfinished, base);
      const target = ['-e', `${WORKER}${wantDev ? '[dev]' : ''}`, '-c', `${WORKER}/constraints.txt`];
      await installPackages({ ...environment, target, again }, progress);
      dropCopyOfGeneratedCode(venv);
      await checkImports(environment, progress);
      writeStamp(stamp, `${base} ${wantDev ? 'dev' : 'run'}`);
      rmSync(unfinished, { force: true });
    },
    kind === undefined ? HOW_LONG : '',
  );
}

/** An editable install copies what a wheel would hold, and the copy hides what `npm run gen` prints later. */
function dropCopyOfGeneratedCode(venv) {
  const lib = join(venv, 'lib');
  for (const version of existsSync(lib) ? readdirSync(lib) : []) {
    rmSync(join(lib, version, 'site-packages', 'patchbay_protocol'), { recursive: true, force: true });
  }
}
