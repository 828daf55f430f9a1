/** Which part of a model a rank has. Ranks are counted with tp fastest, then dp, then pp. @module */
import type { Deployment } from '../api.js';

type Spec = Pick<Deployment['spec'], 'pp' | 'dp' | 'tp'>;

export interface Coordinates {
  readonly pp: number;
  readonly dp: number;
  readonly tp: number;
}

export const coordinatesOf = (rank: number, { dp, tp }: Spec): Coordinates => ({
  pp: Math.floor(rank / (dp * tp)),
  dp: Math.floor(rank / tp) % dp,
  tp: rank % tp,
});

/** Indices of a dim that a rank of the tp axis has; the end is excluded. */
export const sliceOf = (size: number, tp: number, axis: number): [number, number] => [
  (size / axis) * tp,
  (size / axis) * (tp + 1),
];

type Site = NonNullable<Deployment['description']>['sites'][number];

/** Sites that differ by the number of their layer only, once, in the order of the model. */
export function sharded(sites: readonly Site[]): (Site & { readonly layers: number })[] {
  const found = new Map<string, Site & { layers: number }>();
  for (const site of sites) {
    if (site.layout !== 'sharded' || site.shardDim == null) continue;
    const module = site.module.replace(/(^|\.)\d+(?=\.|$)/g, '$1*');
    const key = `${module} ${site.hookType} ${site.leaf}`;
    const known = found.get(key);
    if (known === undefined) found.set(key, { ...site, module, layers: 1 });
    else known.layers += 1;
  }
  return [...found.values()];
}
