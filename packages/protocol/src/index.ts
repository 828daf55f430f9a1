/** The contract between scripts, orchestrator and workers: documents, results, events, errors, records. @module */
export { CATALOGUE } from './error-catalogue.js';
export type { ErrorCode } from './error-catalogue.js';
export { PatchbayError, error, errorJson, isPatchbayError, toPatchbayError } from './errors.js';
export type { ErrorContext, ErrorJson } from './errors.js';
export { HOOK_TYPES, MAX_DOCUMENT_BYTES, jobDocument } from './job.js';
export type { HookType, JobDocument, JobDocumentInput } from './job.js';
export { ALONG, BINARY, UNARY } from './graph.js';
export type { GraphStep } from './graph.js';
export { formatPath, parseJobDocument, timeoutMsOf } from './parse-job.js';
export { nearest } from './nearest.js';
export {
  activation,
  gangResult,
  hookReport,
  jobResult,
  resultFile,
  rowLabel,
  runResult,
  SANDBOX_LEVELS,
} from './result.js';
export type { JobResult } from './result.js';
export { jobEvent } from './events.js';
export type { GangEvent, JobEvent, JobEventBody } from './events.js';
export { JOB_STATES, NEXT, isTerminal } from './states.js';
export type { JobState } from './states.js';
export { DTYPES, dtypeName } from './tensor.js';
export type { DtypeName, SafetensorsDtype } from './tensor.js';
export { encodeSafetensors, headerEnd, parseSafetensors, parseSafetensorsHeader } from './safetensors.js';
export type { RawTensor, SafetensorsHeader, TensorEntry } from './safetensors.js';
export { deployment, deploymentName, deploymentSpec, modelDescription } from './model.js';
export type { Deployment, DeploymentSpec, ModelDescription } from './model.js';
export { QUEUE_PREFIX, keys, queueName } from './keys.js';
export {
  FINISHED_TTL_SECONDS,
  MAX_EVENTS,
  MAX_EVENT_BYTES,
  STATUS_FIELDS,
  jobStatus,
  readJobStatus,
} from './job-record.js';
export type { JobStatus } from './job-record.js';
export { JOB_LIBRARY, functionCall, lacksFunction } from './job-functions.js';
export type { FunctionCall } from './job-functions.js';
export {
  JOB_SCRIPTS,
  appendCall,
  beginCall,
  cancelCall,
  deleteCall,
  submitCall,
  transitionCall,
} from './job-scripts.js';
export type { EvalCall, TransitionStep } from './job-scripts.js';
export {
  DEFAULT_SUBMITTER,
  QUEUE_JOB_NAME,
  artifactsIn,
  queueJobId,
  queueJobOptions,
  submission,
} from './submission.js';
export type { Submission, SubmissionOptions } from './submission.js';
export { readTraceparent, writeTraceparent } from './traceparent.js';
export type { TraceContext } from './traceparent.js';
export { readSubmitVerdict } from './submit-verdict.js';
export type { Accepted } from './submit-verdict.js';
export { submitterPolicy } from './submitters.js';
export type { SubmitterPolicy } from './submitters.js';
export { STACK_FILE, stackInfo } from './stack.js';
export type { StackInfo } from './stack.js';
