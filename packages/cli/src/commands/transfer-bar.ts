/** Bytes on their way, as a bar. @module */
import type { Output } from '../output.js';

/** Less is there at once. */
const SHOWN_BYTES = 4e6;

/** Whole megabytes, the last one only when all is there. */
export function transferBar(output: Output, label: string): (done: number, total: number) => void {
  let shown = -1;
  return (count, total) => {
    const all = Math.ceil(total / 1e6);
    const done = count >= total ? all : Math.min(all - 1, Math.floor(count / 1e6));
    if (total < SHOWN_BYTES || done === shown) return;
    shown = done;
    output.bar(label, done, all, 'MB');
  };
}
