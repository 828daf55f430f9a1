/** Which processes belong to a stack: those that name its home folder on their command line or in their environment. */
import { readFileSync, readdirSync } from 'node:fs';

/** Pids of all processes whose command line or environment holds this text; not the caller. */
export function processesNaming(text: string): number[] {
  const holds = (pid: string, file: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(text);
    } catch {
      return false; // gone, or not ours to read
    }
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => holds(pid, 'cmdline') || holds(pid, 'environ'))
    .map(Number);
}

/** Waits until the condition holds; the last value is returned when it does not in time. */
export async function eventually<T>(read: () => T, holds: (value: T) => boolean, timeoutMs: number): Promise<T> {
  const end = Date.now() + timeoutMs;
  let value = read();
  while (!holds(value) && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    value = read();
  }
  return value;
}
