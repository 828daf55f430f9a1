/**
 * Describe hook jobs, submit them, read their results.
 *
 * ```ts
 * import { HookFunction, Patchbay } from '@patchbay/sdk';
 *
 * await using pb = new Patchbay(); // finds the stack that `patchbay up` started
 * const hook = new HookFunction({
 *   moduleName: 'model.layers.2.mlp.gate_proj',
 *   expectedShape: [null, null, 512],
 *   editingFunction: `
 * def edit(current_module, inputs, save_ctx, modules):
 *     save_ctx.norms = inputs.norm(dim=-1)
 *     return torch.where(inputs > 1.0, inputs, 0.0)`,
 * });
 * const job = await pb.jobs.submit({
 *   model: 'tiny-facts',
 *   runs: [{ name: 'edited', inputs: { text: ['The capital of France is'] }, hooks: [hook], return: { topK: 3 } }],
 * });
 * const result = await job.result();
 * console.log(result.runs['edited']?.topK, result.saveCtx.tensor('norms').toNested());
 * ```
 * @module
 */
export { Patchbay } from './patchbay.js';
export type { PatchbayOptions } from './options.js';
export { HookFunction } from './jobs/hook-function.js';
export type { HookFunctionOptions, HookSpec } from './jobs/hook-function.js';
export { HookGroups } from './jobs/hook-groups.js';
export type { WhichHooks } from './jobs/hook-groups.js';
export { GraphTensor, graph } from './jobs/graph.js';
export type { GraphOperand } from './jobs/graph.js';
export { linear, lowRank, mlp, pythonModule } from './jobs/modules.js';
export type { ModuleSpec } from './jobs/modules.js';
export { job } from './jobs/job-builder.js';
export type { JobSpec, RunSpec } from './jobs/job-builder.js';
export type { JobFilter, Jobs, SubmitOptions } from './jobs/jobs.js';
export type { Paged } from './jobs/paged.js';
export type { CallOptions } from './transport/deadline.js';
export type { CancelOptions, EventsOptions, JobHandle, ResultOptions } from './jobs/job-handle.js';
export type { JobResult, TensorName } from './results/job-result.js';
export type { DownloadOptions } from './results/result-files.js';
export type { Activation, ActivationFilter } from './results/activations.js';
export type { SaveContext } from './results/save-context.js';
export type { ArtifactRef, Artifacts, FileOptions, UploadOptions, Uploadable } from './artifacts.js';
export type { DeployOptions, DeployProgress, Deploying, DeploymentRequest, DrainOptions, Models } from './models.js';
export { Tensor } from './tensors/tensor.js';
export type { Nested, Scalar, Slice, TensorData } from './tensors/tensor.js';
export { tensor } from './tensors/build-tensor.js';
export { readSafetensors, writeSafetensors } from './tensors/safetensors.js';
export { PatchbayError, isPatchbayError } from '@patchbay/protocol';
export type { DrainState, JobPage, QueueCounts } from '@patchbay/protocol/http';
export type { ErrorCode, ErrorJson, JobEvent, JobState, JobStatus } from '@patchbay/protocol';
