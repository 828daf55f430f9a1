/** `run/stack.json`: how a local stack is found by scripts and the CLI. Written by `patchbay up`, mode 0600. @module */
import { z } from 'zod';

/** Path of the file below PATCHBAY_HOME. */
export const STACK_FILE = 'run/stack.json';

export const stackInfo = z.object({
  http: z.string(),
  redisUrl: z.string(),
  rayAddress: z.string(),
  gateway: z.string(),
  token: z.string(),
  processes: z.array(z.object({ name: z.string(), pid: z.int() })),
  keeperPid: z.int(),
});
export type StackInfo = z.output<typeof stackInfo>;
