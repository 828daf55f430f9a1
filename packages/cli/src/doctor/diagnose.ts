/** All checks of `patchbay doctor`, in the order in which things depend on each other. @module */
import type { Config } from '../config.js';
import { machineChecks } from './machine.js';
import { stackChecks } from './running-stack.js';

export interface Check {
  readonly name: string;
  /** `warn`: works, but not well; `info`: nothing to judge. */
  readonly status: 'ok' | 'warn' | 'fail' | 'info';
  readonly found: string;
  readonly fix?: string | undefined;
}

export async function diagnose(config: Config): Promise<Check[]> {
  return [...(await machineChecks(config)), ...(await stackChecks(config))];
}
