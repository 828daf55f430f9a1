/** Builders for the modules of a job, which edits call as `modules["name"]`. @module */
import type { JobDocumentInput } from '@patchbay/protocol';
import { dedent } from './dedent.js';

/** A module as the job document has it. */
export type ModuleSpec = NonNullable<JobDocumentInput['modules']>[string];

interface ModuleOptions {
  /** Whether `train` runs change it. @defaultValue `true` */
  readonly trainable?: boolean;
}

/** torch.nn.Linear with torch's own initial values, drawn from the job's seed. `bias` is true by default. */
export function linear(
  inFeatures: number,
  outFeatures: number,
  options: ModuleOptions & { readonly bias?: boolean } = {},
): ModuleSpec {
  return { kind: 'linear', inFeatures, outFeatures, ...options };
}

/** Two linear maps without bias, through `rank` features. */
export function lowRank(
  inFeatures: number,
  outFeatures: number,
  rank: number,
  options: ModuleOptions = {},
): ModuleSpec {
  return { kind: 'lowRank', inFeatures, outFeatures, rank, ...options };
}

/** Linear, activation (gelu by default), linear. */
export function mlp(
  inFeatures: number,
  hiddenFeatures: number,
  outFeatures: number,
  options: ModuleOptions & { readonly activation?: 'relu' | 'gelu' | 'silu' | 'tanh' } = {},
): ModuleSpec {
  return { kind: 'mlp', inFeatures, hiddenFeatures, outFeatures, ...options };
}

/** Whatever `def build() -> torch.nn.Module` of the source makes. */
export function pythonModule(source: string, options: ModuleOptions = {}): ModuleSpec {
  return { kind: 'python', source: dedent(source), ...options };
}
