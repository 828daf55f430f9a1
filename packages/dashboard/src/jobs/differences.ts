/** Where two plain values differ, leaf by leaf. @module */
export interface Difference {
  readonly path: string;
  readonly left: unknown;
  readonly right: unknown;
}

const isTree = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** @param all - also the leaves that are equal */
export function differences(left: unknown, right: unknown, all = false, path = ''): Difference[] {
  if (isTree(left) && isTree(right)) {
    const names = [...new Set([...Object.keys(left), ...Object.keys(right)])];
    const list = Array.isArray(left) && Array.isArray(right);
    return names.flatMap((name) => {
      const next = list ? `${path}[${name}]` : path === '' ? name : `${path}.${name}`;
      return differences(left[name], right[name], all, next);
    });
  }
  return all || left !== right ? [{ path, left, right }] : [];
}
