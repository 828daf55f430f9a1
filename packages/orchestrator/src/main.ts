/** The process: configuration, the ready line on stdout, the end on SIGTERM, SIGINT or with the parent. @module */
import { toPatchbayError } from '@patchbay/protocol';
import { loadConfig } from './config.js';
import { startOrchestrator, type Orchestrator } from './orchestrator.js';

const CLOSE_LIMIT_MS = 15_000;

let orchestrator: Orchestrator | undefined;
let ending = false;

function fail(cause: unknown): never {
  process.stderr.write(`${JSON.stringify({ ready: false, error: toPatchbayError(cause) })}\n`);
  process.exit(1);
}

function end(): void {
  // nothing to take apart yet, or asked twice: now
  if (orchestrator === undefined || ending) process.exit(ending ? 130 : 0);
  ending = true;
  setTimeout(() => process.exit(1), CLOSE_LIMIT_MS).unref();
  orchestrator.close().then(() => process.exit(0), fail);
}

function endWithParent(): void {
  const gone = (): void => void (ending || end());
  process.stdin.on('end', gone);
  process.stdin.on('error', gone);
  process.stdin.resume();
}

process.on('SIGTERM', end);
process.on('SIGINT', end);
try {
  const config = loadConfig();
  if (config.exitWithParent) endWithParent();
  orchestrator = await startOrchestrator(config);
  void orchestrator.drained.then(() => void (ending || end()));
  process.stdout.write(`${JSON.stringify({ ready: true, http: orchestrator.http })}\n`);
} catch (cause) {
  fail(cause);
}
