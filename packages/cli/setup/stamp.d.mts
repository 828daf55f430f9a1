/** Types of stamp.mjs. */
export function readStamp(path: string): string;
export function writeStamp(path: string, text: string): void;
