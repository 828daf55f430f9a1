/** Completes what a gang knows of a result. Checked loosely: the ranks wrote it, and it may be large. @module */
import { error, resultFile } from '@patchbay/protocol';
import { z } from 'zod';
import type { ControlRoute } from '../cluster-client/gang.js';

/** Only the shape that readers of the whole rely on; entries are passed on as they are. */
const gangResult = z.looseObject({
  runs: z.record(z.string(), z.unknown()),
  activations: z.array(z.unknown()).optional(),
  saveCtx: z.record(z.string(), z.unknown()).optional(),
  hooks: z.array(z.unknown()).optional(),
  timings: z.record(z.string(), z.number()).default({}),
  warnings: z.array(z.string()).optional(),
  files: z.record(z.string(), resultFile).optional(),
});

/** Moments of an attempt, unix milliseconds. */
export interface Moments {
  readonly created: number;
  readonly taken: number;
  readonly sent: number;
  readonly done: number;
}

export interface ResultFrame {
  readonly jobId: string;
  readonly attempt: number;
  readonly model: string;
  readonly route: ControlRoute;
  readonly moments: Moments;
}

/** What a gang counts of an execute call; the rest of the call is the way to it and back. */
const GANG_PHASES = ['prepareMs', 'executeMs', 'transferMs'];

/** Waiting in the queue, for a replica, on the way, and all of it; clocks of two machines may differ, hence never negative. */
export function phases(
  { created, taken, sent, done }: Moments,
  gang: Readonly<Record<string, number>>,
): Record<string, number> {
  const counted = GANG_PHASES.reduce((sum, phase) => sum + (gang[phase] ?? 0), 0);
  const ours = {
    queueMs: taken - created,
    placeMs: sent - taken,
    controlMs: done - sent - counted,
    totalMs: done - created,
  };
  const rounded = Object.entries(ours).map(([name, ms]) => [name, Math.max(0, Math.round(ms * 1000) / 1000)]);
  return { transferMs: 0, ...gang, ...(Object.fromEntries(rounded) as typeof ours) };
}

/** Moments that are comparable with other machines' and exact among each other. */
export class JobClock {
  /** When it was made: the job was taken. */
  readonly taken = Date.now();
  private readonly start = performance.now();

  now(): number {
    return this.taken + performance.now() - this.start;
  }
}

export interface CompleteResult {
  readonly text: string;
  readonly timings: Record<string, number>;
  /** Digests of the files that are in the artifact store. */
  readonly artifacts: readonly string[];
}

/** The result's JSON with all that the gang does not know. @throws `PB_INTERNAL` for something that is no result */
export function completeResult(json: Buffer, frame: ResultFrame): CompleteResult {
  const { jobId, attempt, model, route, moments } = frame;
  let gang: z.output<typeof gangResult>;
  try {
    gang = gangResult.parse(JSON.parse(json.toString()));
  } catch (cause) {
    throw error('PB_INTERNAL', { reason: 'the gang sent something that is no result' }, { cause, jobId });
  }
  const timings = phases(moments, gang.timings);
  const whole = { ...gang, jobId, state: 'completed', attempt, model, error: null, timings, controlRoute: route };
  const stored = Object.values(gang.files ?? {}).filter(({ inline }) => inline === undefined);
  return { text: JSON.stringify(whole), timings, artifacts: stored.map(({ sha256 }) => sha256) };
}
