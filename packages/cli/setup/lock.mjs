// Keeps two set-ups of one checkout apart. The lock names its owner's process; one whose owner is gone is taken over.
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { SetupError } from './progress.mjs';

const POLL_MS = 500;
const LIMIT_MS = 30 * 60_000;

/** Resolves with the function that gives the lock back. */
export async function takeLock(path, progress) {
  const own = identity(process.pid);
  const mine = `${path}.${process.pid}`;
  writeFileSync(mine, own);
  try {
    const deadline = Date.now() + LIMIT_MS;
    let said = false;
    while (!tryLink(mine, path)) {
      const owner = read(path);
      if (owner === own || (owner !== '' && identity(owner.split(' ')[0]) !== owner)) {
        rmSync(path, { force: true });
        continue;
      }
      if (!said) progress.note(`another set-up is running (process ${owner.split(' ')[0]}), waiting`);
      said = true;
      if (Date.now() > deadline) throw new SetupError('the other set-up did not end', `If it hangs, delete ${path}.`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  } finally {
    rmSync(mine, { force: true });
  }
  const release = () => {
    if (read(path) === own) rmSync(path, { force: true });
  };
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ]) {
    process.once(signal, () => {
      release();
      process.exit(code);
    });
  }
  return release;
}

/** A hard link appears with its content or not at all. */
function tryLink(from, to) {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Process id and start time, so that a reused id is not taken for the owner; '' when there is no such process. */
function identity(pid) {
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if (error.code !== 'EPERM') return '';
  }
  const fields = read(`/proc/${pid}/stat`).split(') ')[1]?.split(' ') ?? [];
  return `${pid} ${fields[19] ?? ''}`.trim();
}
