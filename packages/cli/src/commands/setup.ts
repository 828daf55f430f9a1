/** `patchbay setup`: the Python side of installed packages, once per version: a virtual environment with the worker in it. @module */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { error } from '@patchbay/protocol';
import { HOW_LONG, checkImports, installPackages, makeVenv } from '../../setup/python-environment.mjs';
import { takeLock } from '../../setup/lock.mjs';
import { SetupError, createProgress, type Progress } from '../../setup/progress.mjs';
import { readStamp, writeStamp } from '../../setup/stamp.mjs';
import { defineCommand, text } from '../define-command.js';
import { installation } from '../installation.js';

const { venv, version, constraints, python } = installation;

/** Does nothing when this worker is there already. */
async function install(worker: string, progress: Progress): Promise<void> {
  const [stamp, unfinished] = [join(venv, '.patchbay-stamp'), join(venv, '.patchbay-unfinished')];
  if (readStamp(stamp) === worker && existsSync(python)) return;
  const environment = { venv, cwd: dirname(venv) };
  const again = existsSync(unfinished);
  await makeVenv(environment, progress);
  await progress.step(
    `Python packages of ${worker.split('/').at(-1)}`,
    async () => {
      rmSync(stamp, { force: true });
      writeStamp(unfinished, worker);
      await installPackages({ ...environment, target: [worker, '-c', constraints], again }, progress);
      await checkImports(environment, progress, ', patchbay_worker.engine.engine');
      writeStamp(stamp, worker);
      rmSync(unfinished, { force: true });
    },
    HOW_LONG,
  );
}

export const setup = defineCommand({
  name: 'setup',
  summary: 'Install what the ranks need: a Python environment with the worker, once per version',
  args: {
    worker: text('wheel of the worker; default: patchbay-worker of this version, from the index', { value: 'wheel' }),
  },
  examples: ['patchbay setup', 'patchbay setup --worker ./patchbay_worker-0.1.0-py3-none-any.whl'],
  async run({ args, out, signal }) {
    if (installation.inCheckout)
      throw error(
        'PB_USAGE',
        { reason: 'this is a checkout, which has a set-up of its own', command: 'setup' },
        { hint: 'Run npm run setup.' },
      );
    mkdirSync(dirname(venv), { recursive: true });
    const progress = createProgress(join(dirname(venv), 'setup.log'));
    // what is running is ended with this process
    signal.addEventListener('abort', () => process.exit(130), { once: true });
    try {
      const release = await takeLock(join(dirname(venv), 'setup.lock'), progress);
      try {
        await install(args.worker === undefined ? `patchbay-worker==${version}` : resolve(args.worker), progress);
      } finally {
        release();
      }
    } catch (cause) {
      if (!(cause instanceof SetupError)) throw cause;
      throw error('PB_SETUP_FAILED', { reason: cause.message }, { cause, hint: cause.fix });
    }
    out.data({ python, version }, `${python} is ready. Next: patchbay up --model tiny-facts --tp 2`);
    return undefined;
  },
});
