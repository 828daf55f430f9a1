/** What an operator grants to a submitter; the submission script keeps to it. Not here: who a submitter is (submission.ts). @module */
import { z } from 'zod';

export const submitterPolicy = z.strictObject({
  /** Turns per round in the queue of a deployment. */
  weight: z.number().min(0.01).max(100).optional(),
  /** Jobs that wait per deployment; more are refused with `PB_QUEUE_FULL`. */
  maxQueued: z.int().min(1).optional(),
  /** Jobs that are placing or running at a time; more wait. */
  maxRunning: z.int().min(1).optional(),
  /** Submissions; a minute's worth may come at once, more are refused with `PB_RATE_LIMITED`. */
  ratePerMinute: z.number().min(0.01).optional(),
  /** Highest priority of a job. */
  maxPriority: z.int().min(-3).max(3).optional(),
});
export type SubmitterPolicy = z.infer<typeof submitterPolicy>;
