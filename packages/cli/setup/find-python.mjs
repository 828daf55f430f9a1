// Finds the Python that .venv is made from. Installs nothing.
import { execFileSync } from 'node:child_process';
import { SetupError } from './progress.mjs';

const MINIMUM = [3, 11];
const LIMIT_MS = 30_000;

// /usr/bin first: a Python below somebody's private home folder cannot be executed by any other user, which the
// sandbox may want to become.
const CANDIDATES = ['/usr/bin/python3', 'python3', 'python3.14', 'python3.13', 'python3.12', 'python3.11'];

const PROBE = `
import importlib.util, json, sys
has = lambda name: importlib.util.find_spec(name) is not None
print(json.dumps({"version": list(sys.version_info[:3]), "path": sys.executable, "prefix": sys.prefix,
                  "ensurepip": has("ensurepip") and has("venv"), "pip": has("pip") and has("venv")}))`;

/** @returns {{ path: string, version: string, ensurepip: boolean, pip: boolean }} the first that can make a venv */
export function findPython() {
  const refused = [];
  const usable = [];
  for (const command of process.env.PATCHBAY_SETUP_PYTHON ? [process.env.PATCHBAY_SETUP_PYTHON] : CANDIDATES) {
    const found = probe(command);
    if (found === undefined) continue;
    const version = found.version.join('.');
    if (found.version[0] !== MINIMUM[0] || found.version[1] < MINIMUM[1])
      refused.push(`${found.path}: ${version} is too old`);
    else if (!found.ensurepip && !found.pip) refused.push(`${found.path}: ${version} has neither ensurepip nor pip`);
    else usable.push({ ...found, version });
  }
  const best = usable.find((python) => python.ensurepip) ?? usable[0];
  if (best !== undefined) return best;
  const wanted = refused.some((reason) => reason.includes('neither')) ? 'python3-venv' : 'python3 python3-venv';
  throw new SetupError(
    `no Python >= ${MINIMUM.join('.')} that can make a virtual environment.${refused.map((r) => `\n  ${r}`).join('')}`,
    `On Debian or Ubuntu: apt-get update && apt-get install -y ${wanted}\n` +
      'Another Python can be named with PATCHBAY_SETUP_PYTHON=/path/to/python3.',
  );
}

export function probe(command) {
  try {
    const text = execFileSync(command, ['-c', PROBE], {
      encoding: 'utf8',
      timeout: LIMIT_MS,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
