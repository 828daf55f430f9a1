"""A job document held against the loaded model: the same plan, and so the same ordered collectives, on every rank.
Every error of names, shapes, layouts, tokens and selections is found here, before any rank moves.

Not here: the sandbox (prepare.py), the runs themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchbay_worker.engine.job.check_where import check_where
from patchbay_worker.engine.job.compile_hooks import check_parameter, compile_hook
from patchbay_worker.engine.job.inputs import Fetch, InputLimits, TokenBatch, read_inputs
from patchbay_worker.engine.job.job_spec import EditSpec, HookRequest, JobRequest, RunRequest
from patchbay_worker.engine.job.loss import Loss, compile_loss
from patchbay_worker.engine.load import LoadedModel
from patchbay_worker.errors import error
from patchbay_worker.hooks.groups import is_enabled
from patchbay_worker.hooks.spec import GRADIENT_TYPES, CompiledHook
from patchbay_worker.sharding.expected_shape import check_expected_shape
from patchbay_worker.sharding.mesh import Mesh


@dataclass(frozen=True)
class CompiledRun:
    request: RunRequest
    batch: TokenBatch
    hooks: list[CompiledHook]
    loss: Loss | None = None


@dataclass(frozen=True)
class CompiledJob:
    """`sources` are the python edits and losses, in the order that hooks and runs refer to them."""

    request: JobRequest
    sources: list[EditSpec]
    runs: list[CompiledRun]
    warnings: list[str]

    @property
    def needs_sandbox(self) -> bool:
        return bool(self.sources or self.request.modules)


def compile_job(request: JobRequest, loaded: LoadedModel, limits: InputLimits, fetch: Fetch, mesh: Mesh) -> CompiledJob:
    warnings: list[str] = []
    sources: list[EditSpec] = []
    hooks = [hook for each in request.hooks for hook in compile_hook(each, loaded, limits.model, sources, mesh)]
    for parameter in request.parameters:
        check_parameter(parameter, loaded, limits.model)
    _refuse_idle_training(request)
    runs = [_compile_run(each, hooks, sources, loaded, limits, fetch, mesh, warnings) for each in request.runs]
    used = {hook.spec.name for run in runs for hook in run.hooks}
    for hook in request.hooks:
        if hook.name not in used:
            _refuse_lonely(hook, request.runs)
            warnings.append(f"{hook.path}: {hook.name} is on in no run")
    return CompiledJob(request, sources, runs, warnings)


def _refuse_idle_training(request: JobRequest) -> None:
    if any(module.trainable for module in request.modules):
        return
    for run in request.runs:
        if run.train is not None:
            raise error("PB_NOTHING_TO_TRAIN", path=f"{run.path}.mode")


def _refuse_lonely(hook: HookRequest, runs: Sequence[RunRequest]) -> None:
    """A hook that waits for gradients in a job that computes none would be silently empty."""
    if hook.hook_type not in GRADIENT_TYPES or any(run.loss is not None for run in runs):
        return
    reason = "no run of the job computes any"
    path = f"{hook.path}.hookType"
    raise error("PB_GRADIENT_NEEDS_BACKWARD", path=path, hook=hook.name, hookType=hook.hook_type, reason=reason)


def _compile_run(
    run: RunRequest,
    hooks: Sequence[CompiledHook],
    sources: list[EditSpec],
    loaded: LoadedModel,
    limits: InputLimits,
    fetch: Fetch,
    mesh: Mesh,
    warnings: list[str],
) -> CompiledRun:
    batch = read_inputs(run, loaded.tokenizer, limits, fetch, warnings)
    if run.sampling is not None and not loaded.model.can_generate():
        what = f"generation by {loaded.config.model_type}, which reads its tokens in both directions"
        raise error("PB_NOT_SUPPORTED", path=f"{run.path}.mode", what=what)
    if run.sampling is not None and batch.ragged:
        _check_ragged_generation(run, batch, loaded, run.sampling.max_new_tokens)
    enabled = _enabled(run, hooks)
    sizes = [(len(batch.tokens), batch.width)]
    if run.sampling is not None:
        sizes.append((len(batch.tokens), 1))
    for hook in enabled:
        spec = hook.spec
        if spec.expected_shape is not None and hook.site is not None:
            check_expected_shape(spec.expected_shape, hook.site, sizes, mesh.tp, f"{spec.path}.expectedShape")
    for spec in {id(hook.spec): hook.spec for hook in enabled}.values():
        check_where(spec, run.name, batch, _forward_calls(run))
    return CompiledRun(run, batch, enabled, _compile_loss(run, batch, sources, loaded, limits))


def _forward_calls(run: RunRequest) -> int:
    if run.sampling is not None:
        return run.sampling.max_new_tokens
    return run.train.steps if run.train is not None else 1


def _enabled(run: RunRequest, hooks: Sequence[CompiledHook]) -> list[CompiledHook]:
    """Hooks of gradients are off in runs without gradients, unless one is asked for by its name."""
    enabled = []
    for hook in hooks:
        spec = hook.spec
        if not is_enabled(spec, run.hooks):
            continue
        if run.loss is not None or not spec.of_gradients:
            enabled.append(hook)
        elif run.hooks.names is not None:
            path = f"{run.path}.hooks.names[{run.hooks.names.index(spec.name)}]"
            reason = f"run {run.name} of mode {run.mode} computes none"
            raise error("PB_GRADIENT_NEEDS_BACKWARD", path=path, hook=spec.name, hookType=spec.hook_type, reason=reason)
    return enabled


def _compile_loss(
    run: RunRequest, batch: TokenBatch, sources: list[EditSpec], loaded: LoadedModel, limits: InputLimits
) -> Loss | None:
    if run.loss is None:
        return None
    path, source = f"{run.path}.loss", None
    if run.loss["kind"] == "python":
        source = len(sources)
        sources.append(EditSpec(f"loss of {run.name}", run.loss["source"], run.loss["entry"], path, arguments=3))
    if run.train is not None and run.train.optimizer["kind"] != "sgd" and "momentum" in run.train.optimizer:
        path = f"{run.path}.optimizer.momentum"
        raise error("PB_DOCUMENT_INVALID", path=path, reason="momentum belongs to the optimizer sgd")
    return compile_loss(run.loss, run.name, path, batch, loaded.tokenizer, limits, source)


def _check_ragged_generation(run: RunRequest, batch: TokenBatch, loaded: LoadedModel, new_tokens: int) -> None:
    """New tokens stand behind the padding of short rows; attention masks it out, but not everything is attention."""
    what = None
    window = getattr(loaded.text_config, "sliding_window", None)
    if getattr(loaded.model, "_is_stateful", False):
        what = "generation from prompts of different lengths by a model with recurrent state"
    elif window is not None and batch.width + new_tokens > window:
        what = f"generation from prompts of different lengths beyond the sliding window of {window}"
    if what is not None:
        raise error("PB_NOT_SUPPORTED", path=f"{run.path}.inputs", what=what, hint="Use one run per prompt.")
