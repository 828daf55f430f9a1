/**
 * The catalogue of every error a user can meet: code, HTTP status, whether a retry can help, message and fix.
 * `pnpm gen` prints `docs/errors.md` and the Python copy from it. Not here: where errors are raised.
 * @module
 */
interface Definition {
  readonly status: number;
  readonly retryable: boolean;
  /** `{name}` is filled from the details given where the error is raised. */
  readonly message: string;
  readonly fix: string;
}

const user = (status: number, message: string, fix: string): Definition => ({ status, retryable: false, message, fix });
const infra = (status: number, message: string, fix: string): Definition => ({ status, retryable: true, message, fix });

/** Kept as plain data so that both languages and the docs read the same words. */
export const CATALOGUE = {
  // the job document
  PB_DOCUMENT_INVALID: user(
    400,
    'the job document is not valid: {reason}',
    'Correct the value at the path and try `patchbay validate`; docs/job-document.md describes every field.',
  ),
  PB_DOCUMENT_UNKNOWN_KEY: user(400, 'unknown key "{key}"', 'Remove the key or correct its spelling.'),
  PB_DOCUMENT_VERSION: user(400, 'version {actual} of the job document is not supported', 'Use "version": 1.'),
  PB_DOCUMENT_TOO_LARGE: user(
    413,
    'the job document has {bytes} bytes, {limit} are allowed',
    'Upload long sources or inputs (`patchbay upload FILE`) and refer to them.',
  ),
  PB_JOB_ID_CONFLICT: user(
    409,
    'job {jobId} exists already with another document',
    'Choose another job id, or submit the same document again to get the first job.',
  ),
  PB_JOB_NOT_FOUND: user(
    404,
    'there is no job {jobId}',
    'Check the id; finished jobs are kept for a limited time. `patchbay jobs` lists them.',
  ),
  PB_JOB_CANCELLED: user(
    409,
    'the job was cancelled: {reason}',
    'Submit it again under a new id if it is still wanted.',
  ),
  PB_JOB_TIMEOUT: user(
    408,
    'the job ran longer than {timeoutMs} ms',
    'Raise limits.timeoutMs, or make the job smaller.',
  ),
  PB_JOB_EXPIRED: user(
    408,
    'the job did not run within limits.startTimeoutMs of its submission',
    'Raise limits.startTimeoutMs or leave it out; `patchbay models` shows whether the deployment is ready.',
  ),
  PB_JOB_RUNNING: user(
    409,
    'job {jobId} is {state}',
    'Cancel it first: `patchbay cancel {jobId}`, or wait for its end.',
  ),
  PB_QUEUE_FULL: infra(
    429,
    '{what}: {queued} jobs wait, {limit} may',
    'Submit again when some have run; the same job id never runs twice.',
  ),
  PB_RATE_LIMITED: infra(429, 'more than {limit} submissions a minute by {submitter}', 'Submit again in {waitMs} ms.'),
  PB_PRIORITY_REFUSED: user(
    403,
    'priority {priority} is not allowed to {submitter}, at most {limit} is',
    'Lower it, or ask the operator to raise maxPriority.',
  ),
  PB_JOB_STALLED: user(
    500,
    'the job lost its worker {attempts} times',
    'The job itself may be ending its worker; look at the logs, make it smaller, submit it again.',
  ),
  PB_NOT_SUPPORTED: user(400, '{what} is not supported yet', 'CHANGELOG.md says what this version can do.'),
  PB_LIMIT_EXCEEDED: user(
    413,
    '{what}: {actual} is over the limit of {limit}',
    'Make it smaller, or raise the limit where the operator allows it.',
  ),
  // model and inputs
  PB_MODEL_NOT_FOUND: user(
    404,
    'no deployment is named "{model}"',
    'Deploy it: `patchbay deploy {model}`; `patchbay models` lists what is deployed.',
  ),
  PB_MODEL_LOAD_FAILED: user(
    422,
    'the model {model} cannot be loaded: {reason}',
    'Check the path or name, and that the checkpoint is complete.',
  ),
  PB_MODEL_EXISTS: user(
    409,
    'a deployment named "{model}" exists already with another configuration',
    'Take it off first: `patchbay undeploy {model}`, or give the new one another --name.',
  ),
  PB_MODEL_NOT_READY: infra(
    503,
    'the deployment "{model}" is {status}',
    'Wait until `patchbay models` shows it ready; its reason is shown there.',
  ),
  PB_MESH_UNSUPPORTED: user(422, 'the mesh pp={pp} dp={dp} tp={tp} is not supported: {reason}', 'Choose another mesh.'),
  PB_NOT_DIVISIBLE: user(422, '{field} = {size} cannot be divided by tp = {tp}', 'Choose a tp that divides {field}.'),
  PB_PROMPT_EMPTY: user(400, 'the prompt has no tokens', 'Give at least one token per prompt.'),
  PB_PROMPT_TOO_LONG: user(
    400,
    'the prompt with what is to be generated has {tokens} tokens, the model takes {limit}',
    'Shorten the prompt or maxNewTokens.',
  ),
  PB_TOKEN_OUT_OF_RANGE: user(
    400,
    'token id {token} is outside of the vocabulary of {size}',
    "Use ids from 0 to {size} - 1 of this model's tokenizer.",
  ),
  PB_TOKENIZER_MISSING: user(422, 'the model {model} has no tokenizer for {what}', 'Give tokenIds instead.'),
  PB_TOKEN_AMBIGUOUS: user(
    400,
    '"{text}" is {tokens} tokens, one is needed',
    'Give a text that is one token (mind the leading space), or a token id.',
  ),
  PB_LOSS_INVALID: user(
    422,
    'the loss of run {run}: {reason}',
    'docs/job-document.md has what each kind of loss takes.',
  ),
  PB_LOGITS_NOT_FINITE: user(
    422,
    'run {run}: no token can be chosen from the logits of row {rows} at step {step}, they are NaN or infinite',
    'Capture the layers of that step to see where it begins; the edits of earlier steps and runs may have made them.',
  ),
  PB_GRADIENT_NEEDS_BACKWARD: user(
    422,
    'hook {hook} of type {hookType} sees gradients, and {reason}',
    'Add a run of mode backward or train that enables it.',
  ),
  PB_NOTHING_TO_TRAIN: user(
    422,
    'a run of mode train has no trainable module',
    'Declare modules with trainable true, and call them in an edit that the run enables.',
  ),
  // hooks and layout
  PB_HOOK_MODULE_NOT_FOUND: user(
    404,
    'no module of {model} matches "{module}"',
    'Use a name from `patchbay models --modules`; * stands for one path segment.',
  ),
  PB_HOOK_NOT_FOUND: user(
    404,
    'no hook is named "{hook}"',
    'A run can only enable hooks that the job declares; `patchbay validate` checks it.',
  ),
  PB_GROUP_NOT_FOUND: user(
    404,
    'no hook is in the group "{group}"',
    'A run can only enable groups that a hook of the job names, or "all".',
  ),
  PB_HOOK_REUSED: user(
    400,
    'the HookFunction on {module} is already part of another job',
    'Make a new HookFunction for every job.',
  ),
  PB_PARAMETER_NOT_FOUND: user(
    404,
    'the model {model} has no parameter "{parameter}"',
    'Use a name from `patchbay models --parameters`.',
  ),
  PB_UNPACK_INDEX: user(422, 'unpackIdx {index} of {module}: there are {count} tensors', 'Use 0 to {count} - 1.'),
  PB_SHAPE_MISMATCH: user(
    422,
    '{module}: expectedShape {expected} does not fit the full shape {full}; local shapes are {local}',
    'Use null for a dim that you do not want to check, or null for the whole shape.',
  ),
  PB_SHAPE_AMBIGUOUS: user(
    422,
    '{module}: expectedShape {expected} fits {candidates}',
    'Give expectedShape null where the shard plan knows the layout, or hook another module.',
  ),
  PB_NOT_SHARDABLE: user(422, '{module}: {reason}', 'Deploy with tp 1, or hook a module whose layout is known.'),
  PB_WHERE_EMPTY: user(422, 'where selects nothing: {reason}', 'Check rows, positions and steps against the inputs.'),
  PB_WHERE_UNSUPPORTED: user(
    422,
    '{module}: where cannot be applied: {reason}',
    'Leave out where, and select inside the editing function.',
  ),
  // the editing function
  PB_EDIT_FAILED: user(
    422,
    'the editing function of hook {hook} raised {type}: {text}',
    'The traceback and line are of your own source.',
  ),
  PB_EDIT_SYNTAX: user(400, 'the source of hook {hook} is not valid Python: {text} (line {line})', 'Correct the line.'),
  PB_EDIT_ENTRY_MISSING: user(
    400,
    'the source of hook {hook} defines no function "{entry}"',
    'Define it, or name another one with edit.entry.',
  ),
  PB_EDIT_GRAPH: user(
    422,
    'the graph of hook {hook} cannot be computed: {reason}',
    'Correct the step at the path; docs/job-document.md lists the operations.',
  ),
  PB_EDIT_SIGNATURE: user(
    400,
    'the function of hook {hook} has the signature {signature}',
    'It is called as (current_module, inputs, save_ctx, modules).',
  ),
  PB_EDIT_TIMEOUT: user(
    422,
    'the editing function of hook {hook} took longer than {seconds} s',
    'Make it faster, or raise limits.editTimeoutMs.',
  ),
  PB_EDIT_MEMORY: user(
    422,
    'the editing function of hook {hook} needed more than its {bytes} bytes of memory',
    'Use less memory, or raise limits.editMemoryBytes.',
  ),
  PB_EDIT_CRASHED: user(
    422,
    'the process of the editing function of hook {hook} ended: {reason}',
    'Look at the logs; native code in the edit may have failed.',
  ),
  PB_EDIT_BLOCKED: user(
    422,
    'the editing function of hook {hook} tried what the sandbox forbids: {what}',
    'An edit has no network, files or processes.',
  ),
  PB_EDIT_SHAPE: user(
    422,
    'the editing function of hook {hook} returned the shape {actual}, expected {expected}',
    'Return a tensor of the shape of inputs.',
  ),
  PB_EDIT_DTYPE: user(
    422,
    'the editing function of hook {hook} returned {actual}, expected {expected}',
    'Convert the result: return result.to(inputs.dtype).',
  ),
  PB_EDIT_RETURNED_NONE: user(
    422,
    'the editing function of hook {hook} returned {type} instead of a tensor',
    'Return the edited tensor, or inputs to leave it unchanged.',
  ),
  PB_SANDBOX_FAILED: infra(
    503,
    'the sandbox process cannot be used: {reason}',
    "Look at the worker's log; `patchbay doctor` tests the sandbox.",
  ),
  PB_SANDBOX_LEVEL: user(
    403,
    'python edits need the sandbox level {minimum}, this worker reaches {level}: {probes}',
    'Raise the level as `patchbay doctor` says, or use edits of another kind.',
  ),
  // artifacts
  PB_ARTIFACT_NOT_FOUND: user(
    404,
    'there is no artifact {artifact}',
    'Upload it first: `patchbay upload FILE`, or client.artifacts.upload() in a script.',
  ),
  PB_ARTIFACT_CORRUPT: user(422, 'the artifact {artifact} is not what was expected: {reason}', 'Upload it again.'),
  PB_TENSOR_NOT_FOUND: user(404, 'the result has no tensor "{tensor}"', 'result.tensors() lists the names.'),
  PB_TENSOR_NOT_LOADED: user(
    409,
    '{file} has {bytes} bytes and was not loaded with the result',
    'Use `await result.tensor("{file}", name)` or `await result.download(dir)`, or raise eagerBytes.',
  ),
  PB_TENSOR_INVALID: user(400, 'not possible with this tensor: {reason}', "Compare with the tensor's shape and dtype."),
  PB_SAFETENSORS_INVALID: user(
    422,
    'not a valid safetensors file: {reason}',
    'Write the file again; safetensors of version 0.4 or newer are read.',
  ),
  // service
  PB_UNAUTHORIZED: user(
    401,
    'the token is missing or wrong',
    'Set PATCHBAY_TOKEN, or pass `token`; `patchbay up --json` prints it.',
  ),
  PB_READ_ONLY: user(403, 'this token may look, but not change anything', 'Sign in with the token of an operator.'),
  PB_OPERATOR_ONLY: user(
    403,
    'an API key may not ask for {url}',
    'A key submits, reads and cancels its own jobs; deployments, queues and the jobs of others need the token of an operator.',
  ),
  PB_CROSS_ORIGIN: user(
    403,
    'the request came from {origin}, this service is {host}',
    'Open the dashboard under its own address; other sites may not change anything here.',
  ),
  PB_NOT_FOUND: user(404, 'there is nothing at {url}', 'See the list of paths in docs/http.md.'),
  PB_REQUEST_INVALID: user(400, 'the request is not valid: {reason}', 'Correct the value at the path.'),
  PB_USAGE: user(400, '{reason}', '`patchbay {command} --help` describes the command.'),
  PB_CONFIG_INVALID: user(
    400,
    'the configuration is not valid: {reason}',
    'Correct the option, PATCHBAY_* variable or patchbay.toml entry that is named.',
  ),
  PB_STACK_NOT_RUNNING: user(
    503,
    'no Patchbay stack is running for {home}',
    'Start one: `patchbay up`, or set PATCHBAY_REDIS_URL and PATCHBAY_HTTP_URL.',
  ),
  PB_STACK_RUNNING: user(
    409,
    'a Patchbay stack is running already for {home} (pid {pid})',
    'Use it, stop it with `patchbay down`, or set another PATCHBAY_HOME.',
  ),
  PB_SETUP_FAILED: user(
    500,
    'the set-up failed: {reason}',
    'Its log is beside the Python environment; `patchbay doctor` says what this machine lacks. Run `patchbay setup` again.',
  ),
  PB_STACK_START_FAILED: user(
    500,
    '{part} did not start: {reason}',
    'Its log is {log}; `patchbay doctor` says what this machine lacks.',
  ),
  PB_REDIS_UNAVAILABLE: infra(
    503,
    'Redis at {url} cannot be reached: {reason}',
    'Start the stack (`patchbay up`), or correct PATCHBAY_REDIS_URL.',
  ),
  PB_GATEWAY_UNAVAILABLE: infra(
    503,
    'the gateway at {address} cannot be reached: {reason}',
    'It is restarted by itself while the stack is up; `patchbay doctor` shows its state.',
  ),
  PB_ORCHESTRATOR_UNAVAILABLE: infra(
    503,
    'the orchestrator at {url} cannot be reached: {reason}',
    'Start the stack (`patchbay up`), or correct PATCHBAY_HTTP_URL.',
  ),
  PB_GANG_LOST: infra(
    503,
    'the ranks of {model} were lost in epoch {epoch}: {reason}',
    'They are started again by themselves; the job is retried while attempts are left.',
  ),
  PB_PLACEMENT_FAILED: user(
    503,
    'the deployment does not fit: {reason}',
    '`patchbay top` shows what runs: undeploy something, or choose a smaller mesh.',
  ),
  PB_MEMORY: user(
    503,
    'the weights of {model} do not fit: {needed} are needed and {free} are free on {where}',
    'Use more ranks (tp, pp) or nodes, a smaller dtype, or `patchbay undeploy` something.',
  ),
  PB_ARTIFACT_STORE_UNAVAILABLE: infra(
    503,
    'the artifact store {store} cannot be used: {reason}',
    'Check PATCHBAY_ARTIFACT_STORE, and the region, credentials and endpoint in the environment of the orchestrator (AWS_*).',
  ),
  PB_ARTIFACT_URL_UNREACHABLE: user(
    503,
    'rank 0 on node {node} cannot reach {url}, where results go: {reason}',
    "Set PATCHBAY_ARTIFACT_URL to an address of the orchestrator that the ranks' nodes can reach, and PATCHBAY_HTTP_HOST to listen there.",
  ),
  PB_STALE_ATTEMPT: user(
    409,
    'attempt {attempt} of job {jobId} is not the current one',
    'Nothing to do: a newer attempt owns the job.',
  ),
  PB_SUBMIT_TIMEOUT: infra(
    504,
    'the submission was not confirmed within {timeoutMs} ms',
    'Submit again with the same job id: nothing runs twice.',
  ),
  PB_WAIT_TIMEOUT: infra(
    504,
    'the job was not finished within {timeoutMs} ms; it runs on',
    'Wait again with the same handle (`patchbay result ID`), or `patchbay cancel ID`.',
  ),
  PB_ABORTED: user(499, 'aborted by the caller', 'The job itself runs on unless it was cancelled.'),
  PB_INTERNAL: infra(500, 'internal error: {reason}', 'This is a bug of Patchbay; please report it with the message.'),
} as const satisfies Record<string, Definition>;

/** A stable code of the catalogue. */
export type ErrorCode = keyof typeof CATALOGUE;
