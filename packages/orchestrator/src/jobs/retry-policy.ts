/**
 * How often and after which pause a failed job is tried again, by what it failed of. Only what its author cannot help is
 * tried again at all. Not here: counting (job-record.ts), the pause itself (consumer.ts).
 * @module
 */
import { error, type ErrorCode, type PatchbayError } from '@patchbay/protocol';

interface Patience {
  /** Failures of one kind, the first one included, after which the job fails. */
  readonly failures: number;
  readonly firstPauseMs: number;
  readonly longestPauseMs: number;
}

const DEFAULT: Patience = { failures: 3, firstPauseMs: 250, longestPauseMs: 5_000 };

const PATIENCE: Partial<Record<ErrorCode, Patience>> = {
  // the ranks were lost with the job on them: the second time the job is taken for the culprit
  PB_GANG_LOST: { failures: 2, firstPauseMs: 100, longestPauseMs: 100 },
  // somebody else's restart, or many jobs before this one: says nothing about the job
  PB_MODEL_NOT_READY: { failures: 20, firstPauseMs: 100, longestPauseMs: 5_000 },
  PB_GATEWAY_UNAVAILABLE: { failures: 10, firstPauseMs: 250, longestPauseMs: 5_000 },
  // the home rank could not reach the artifact store
  PB_ORCHESTRATOR_UNAVAILABLE: { failures: 6, firstPauseMs: 250, longestPauseMs: 5_000 },
  PB_INTERNAL: { failures: 2, firstPauseMs: 250, longestPauseMs: 250 },
};

/** So often may whoever runs a job vanish under it. */
const MAX_LOST_CONSUMERS = 5;

/**
 * @param code - by what the failure is judged, of which there were `failures`
 * @returns the pause before the next try, or why there is none
 */
export function afterFailure(failure: PatchbayError, code: ErrorCode, failures: number): number | PatchbayError {
  if (!failure.retryable) return failure;
  const { failures: most, firstPauseMs, longestPauseMs } = PATIENCE[code] ?? DEFAULT;
  if (failures < most) return Math.min(firstPauseMs * 2 ** (failures - 1), longestPauseMs);
  return code === 'PB_GANG_LOST' ? stalled(failures, failure) : failure;
}

/** @throws `PB_JOB_STALLED` */
export function checkLostConsumers(lost: number): void {
  if (lost > MAX_LOST_CONSUMERS) throw stalled(lost);
}

function stalled(attempts: number, cause?: PatchbayError): PatchbayError {
  return error('PB_JOB_STALLED', { attempts }, { cause });
}
