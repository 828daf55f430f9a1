"""A job document held against the loaded model: the same plan, and so the same ordered collectives, on every rank.
Every error of names, shapes, layouts, tokens and selections is found here, before any rank moves.

Not here: the sandbox (prepare.py), the runs themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchbay_worker.contract import nearest
from patchbay_worker.engine.job.check_where import check_where
from patchbay_worker.engine.job.inputs import Fetch, InputLimits, TokenBatch, read_inputs
from patchbay_worker.engine.job.job_spec import EditSpec, HookRequest, JobRequest, RunRequest
from patchbay_worker.engine.load import LoadedModel
from patchbay_worker.errors import error
from patchbay_worker.hooks.groups import is_enabled
from patchbay_worker.hooks.match import matching
from patchbay_worker.hooks.spec import CompiledHook, HookSpec, Route, token_dims
from patchbay_worker.sharding.expected_shape import check_expected_shape
from patchbay_worker.sharding.layout import Site, SiteKind


@dataclass(frozen=True)
class CompiledRun:
    request: RunRequest
    batch: TokenBatch
    hooks: list[CompiledHook]


@dataclass(frozen=True)
class CompiledJob:
    """`sources` are the python edits, in the order that hooks refer to them."""

    request: JobRequest
    sources: list[tuple[str, EditSpec]]
    runs: list[CompiledRun]
    warnings: list[str]

    @property
    def needs_sandbox(self) -> bool:
        return bool(self.sources or self.request.modules)


def compile_job(request: JobRequest, loaded: LoadedModel, limits: InputLimits, fetch: Fetch, tp: int) -> CompiledJob:
    warnings: list[str] = []
    sources: list[tuple[str, EditSpec]] = []
    hooks = [hook for each in request.hooks for hook in _compile_hook(each, loaded, limits.model, sources, tp)]
    for index, name in enumerate(request.parameters):
        if name not in loaded.parameter_names:
            path = f"return.parameters[{index}]"
            hint = _did_you_mean(name, sorted(loaded.parameter_names))
            raise error("PB_PARAMETER_NOT_FOUND", path=path, hint=hint, model=limits.model, parameter=name)
    runs = [_compile_run(each, hooks, loaded, limits, fetch, tp, warnings) for each in request.runs]
    used = {hook.spec.name for run in runs for hook in run.hooks}
    warnings += [f"{hook.path}: {hook.name} is on in no run" for hook in request.hooks if hook.name not in used]
    return CompiledJob(request, sources, runs, warnings)


def _did_you_mean(name: str, known: Sequence[str]) -> str | None:
    found = nearest(name, known)
    return "Did you mean " + " or ".join(f'"{text}"' for text in found) + "?" if found else None


def _compile_hook(
    hook: HookRequest, loaded: LoadedModel, model: str, sources: list[tuple[str, EditSpec]], tp: int
) -> list[CompiledHook]:
    """One per module that the name matches, all with the same edit."""
    if hook.hook_type not in ("forward", "forward_pre"):
        raise error("PB_NOT_SUPPORTED", path=f"{hook.path}.hookType", what=f"the hook type {hook.hook_type}")
    if hook.edit_kind not in ("none", "python"):
        raise error("PB_NOT_SUPPORTED", path=f"{hook.path}.edit.kind", what=f"an edit of kind {hook.edit_kind}")
    names = matching(hook.module, loaded.module_names)
    if not names:
        hint = _did_you_mean(hook.module, loaded.module_names)
        path = f"{hook.path}.moduleName"
        raise error("PB_HOOK_MODULE_NOT_FOUND", path=path, hint=hint, model=model, module=hook.module)
    source = None
    if hook.edit is not None:
        source = len(sources)
        sources.append((hook.name, hook.edit))
    kind: SiteKind = "forward" if hook.hook_type == "forward" else "forward_pre"
    spec = HookSpec(
        name=hook.name,
        path=hook.path,
        kind=kind,
        expected_shape=hook.expected_shape,
        unpack_idx=hook.unpack_idx,
        source=source,
        save=hook.save,
        where=hook.where,
        groups=hook.groups,
    )
    return [_place(spec, name, loaded, tp) for name in names]


def _place(spec: HookSpec, name: str, loaded: LoadedModel, tp: int) -> CompiledHook:
    leaves = loaded.sites.leaves(name, spec.kind)
    site = next((site for site in leaves.values() if site.leaf == spec.unpack_idx), None)
    if site is None and leaves:
        path = f"{spec.path}.unpackIdx"
        raise error("PB_UNPACK_INDEX", path=path, module=name, index=spec.unpack_idx, count=len(leaves))
    reads = spec.edits or spec.save != "none"
    if site is not None and site.layout.refused and reads:
        reason = site.layout.reason or f"its layout is {site.layout.kind}"
        raise error("PB_NOT_SHARDABLE", path=f"{spec.path}.moduleName", module=name, reason=reason)
    if spec.where is not None and (spec.where.rows or spec.where.positions) and token_dims(site) is None:
        shape = (
            f"its shape is {list(site.shape)}" if site is not None else "it was not called when the model was probed"
        )
        reason = f"the leading dims must be batch and sequence, {shape}"
        raise error("PB_WHERE_UNSUPPORTED", path=f"{spec.path}.where", module=name, reason=reason)
    return CompiledHook(spec, name, loaded.modules[name], leaves, site, _route(spec, site, tp))


def _route(spec: HookSpec, site: Site | None, tp: int) -> Route:
    if not spec.edits:
        return "none" if spec.save == "none" else "read"
    replicated = site is not None and site.layout.kind == "replicated"
    return "broadcast" if replicated and tp > 1 else "root"


def _compile_run(
    run: RunRequest,
    hooks: Sequence[CompiledHook],
    loaded: LoadedModel,
    limits: InputLimits,
    fetch: Fetch,
    tp: int,
    warnings: list[str],
) -> CompiledRun:
    if run.mode not in ("forward", "generate"):
        raise error("PB_NOT_SUPPORTED", path=f"{run.path}.mode", what=f"a run of mode {run.mode}")
    batch = read_inputs(run, loaded.tokenizer, limits, fetch, warnings)
    if run.sampling is not None and batch.ragged:
        _check_ragged_generation(run, batch, loaded, run.sampling.max_new_tokens)
    enabled = [hook for hook in hooks if is_enabled(hook.spec, run.hooks)]
    sizes = [(len(batch.tokens), batch.width)]
    if run.sampling is not None:
        sizes.append((len(batch.tokens), 1))
    for hook in enabled:
        spec = hook.spec
        if spec.expected_shape is not None and hook.site is not None:
            check_expected_shape(spec.expected_shape, hook.site, sizes, tp, f"{spec.path}.expectedShape")
    steps = run.sampling.max_new_tokens if run.sampling is not None else 1
    for spec in {id(hook.spec): hook.spec for hook in enabled}.values():
        check_where(spec, run.name, batch, steps)
    return CompiledRun(run, batch, enabled)


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
