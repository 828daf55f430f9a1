"""Hooks of a document held against the model: which modules or parameters, which layout, which route.

Not here: runs (compile_job.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from patchbay_worker.contract import nearest
from patchbay_worker.engine.job.job_spec import EditSpec, HookRequest, ParameterRequest
from patchbay_worker.engine.load import LoadedModel
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.hooks.graph.graph import Graph
from patchbay_worker.hooks.match import matching
from patchbay_worker.hooks.spec import CompiledHook, HookSpec, Route, batch_dim, token_dims
from patchbay_worker.sharding.layout import Dim, Layout, Site
from patchbay_worker.sharding.mesh import Mesh
from patchbay_worker.sharding.probe import dtype_name


def compile_hook(
    hook: HookRequest, loaded: LoadedModel, model: str, sources: list[EditSpec], mesh: Mesh
) -> list[CompiledHook]:
    """One per module or parameter that the name matches, all with the same edit."""
    source = None
    if hook.edit is not None:
        source = len(sources)
        sources.append(hook.edit)
    spec = HookSpec(
        name=hook.name,
        path=hook.path,
        hook_type=hook.hook_type,
        expected_shape=hook.expected_shape,
        unpack_idx=hook.unpack_idx,
        source=source,
        save=hook.save,
        where=hook.where,
        groups=hook.groups,
        dp_dim=hook.dp_dim,
        dtype=getattr(torch, hook.dtype) if hook.dtype is not None else None,
        graph=hook.graph,
    )
    place = _on_parameter if hook.hook_type == "tensor" else _on_module
    return [place(spec, name, loaded, mesh) for name in _names(hook, loaded, model)]


def did_you_mean(name: str, known: Sequence[str]) -> str | None:
    found = nearest(name, known)
    return "Did you mean " + " or ".join(f'"{text}"' for text in found) + "?" if found else None


def check_parameter(wanted: ParameterRequest, loaded: LoadedModel, model: str) -> None:
    facts = loaded.parameters.get(wanted.name)
    if facts is None:
        raise parameter_not_found(wanted.name, wanted.path, loaded, model)
    shape = facts.shape
    for dim, part in enumerate(wanted.slice):
        reason = None
        if dim >= len(shape):
            reason = f"{wanted.name} has {len(shape)} dims"
        elif part is not None and not part[0] < part[1] <= shape[dim]:
            reason = f"{part[0]}:{part[1]} is no part of dim {dim} of {wanted.name}, which has size {shape[dim]}"
        if reason is not None:
            raise error("PB_DOCUMENT_INVALID", path=f"{wanted.path}.slice[{dim}]", reason=reason)


def parameter_not_found(name: str, path: str, loaded: LoadedModel, model: str) -> PatchbayError:
    hint = did_you_mean(name, loaded.parameter_names)
    return error("PB_PARAMETER_NOT_FOUND", path=path, hint=hint, model=model, parameter=name)


def _names(hook: HookRequest, loaded: LoadedModel, model: str) -> list[str]:
    path = f"{hook.path}.moduleName"
    if hook.hook_type == "tensor":
        names = matching(hook.module, loaded.parameter_names)
        if not names:
            raise parameter_not_found(hook.module, path, loaded, model)
        return names
    names = matching(hook.module, loaded.module_names)
    if not names:
        hint = did_you_mean(hook.module, loaded.module_names)
        raise error("PB_HOOK_MODULE_NOT_FOUND", path=path, hint=hint, model=model, module=hook.module)
    return names


def _on_module(spec: HookSpec, name: str, loaded: LoadedModel, mesh: Mesh) -> CompiledHook:
    leaves = loaded.sites.leaves(name, spec.kind)
    site = next((site for site in leaves.values() if site.leaf == spec.unpack_idx), None)
    if site is None and leaves:
        path = f"{spec.path}.unpackIdx"
        raise error("PB_UNPACK_INDEX", path=path, module=name, index=spec.unpack_idx, count=len(leaves))
    reads = spec.edits or spec.save != "none"
    if site is not None and site.layout.refused and reads:
        reason = site.layout.reason or f"its layout is {site.layout.kind}"
        _refuse_ambiguous(spec, site, mesh.tp)
        raise error("PB_NOT_SHARDABLE", path=f"{spec.path}.moduleName", module=name, reason=reason)
    if spec.where is not None and spec.where.of_tokens and token_dims(site) is None:
        shape = (
            f"its shape is {list(site.shape)}" if site is not None else "it was not called when the model was probed"
        )
        reason = f"the leading dims must be batch and sequence, {shape}"
        raise error("PB_WHERE_UNSUPPORTED", path=f"{spec.path}.where", module=name, reason=reason)
    _check_dp_dim(spec, name, site, mesh)
    stage = site.stage if site is not None else 0
    return CompiledHook(spec, name, loaded.modules[name], leaves, site, _route(spec, site, mesh), stage=stage)


def _refuse_ambiguous(spec: HookSpec, site: Site, tp: int) -> None:
    """Where no plan knows the layout, a hint that fits more than one is told apart from one that is merely wrong."""
    hint = spec.expected_shape
    if hint is None or len(hint) != len(site.shape):
        return
    fits = [f"{list(site.shape)} on every rank"] if _fits(hint, site.shape) else []
    for dim, size in enumerate(site.shape):
        whole = (*site.shape[:dim], size * tp if isinstance(size, int) else size, *site.shape[dim + 1 :])
        if _fits(hint, whole):
            fits.append(f"{list(whole)} cut along dim {dim}")
    if len(fits) > 1:
        path = f"{spec.path}.expectedShape"
        shown = "[" + ", ".join("null" if size is None else str(size) for size in hint) + "]"
        raise error("PB_SHAPE_AMBIGUOUS", path=path, module=site.module, expected=shown, candidates=" and ".join(fits))


def _fits(hint: Sequence[int | None], shape: Sequence[Dim]) -> bool:
    pairs = zip(hint, shape, strict=True)
    return all(want is None or isinstance(have, str) or want == have for want, have in pairs)


def _on_parameter(spec: HookSpec, name: str, loaded: LoadedModel, mesh: Mesh) -> CompiledHook:
    """Its gradient is put together on every rank by the parameter's own placement, so it counts as replicated."""
    facts = loaded.parameters[name]
    if spec.where is not None:
        reason = "the gradient of a parameter has no rows of tokens"
        raise error("PB_WHERE_UNSUPPORTED", path=f"{spec.path}.where", module=name, reason=reason)
    if facts.tied:
        reason = "it is tied to a weight of another pipeline stage, and its gradient is the sum of both"
        raise error("PB_NOT_SHARDABLE", path=f"{spec.path}.moduleName", module=name, reason=reason)
    site = Site(name, spec.kind, 0, 0, facts.shape, Layout("replicated"), dtype_name(facts.dtype), facts.stage)
    if spec.unpack_idx > 0:
        raise error("PB_UNPACK_INDEX", path=f"{spec.path}.unpackIdx", module=name, index=spec.unpack_idx, count=1)
    module = loaded.modules.get(name.rpartition(".")[0], loaded.model)
    parameter: nn.Parameter | None = loaded.own_parameter(name)
    leaves = loaded.sites.leaves(name.rpartition(".")[0], "forward")  # of the module that the parameter belongs to
    return CompiledHook(spec, name, module, leaves, site, _route(spec, site, mesh), parameter, facts.stage)


def _check_dp_dim(spec: HookSpec, name: str, site: Site | None, mesh: Mesh) -> None:
    if spec.dp_dim is None or site is None:
        return
    reason = None
    if spec.dp_dim >= len(site.shape):
        reason = f"dpDim {spec.dp_dim} of a tensor with {len(site.shape)} dims"
    elif mesh.dp > 1 and batch_dim(site) not in (None, spec.dp_dim):
        reason = f"dpDim {spec.dp_dim}, but the batch lies along dim {batch_dim(site)} of {list(site.shape)}"
    if reason is not None:
        raise error("PB_NOT_SHARDABLE", path=f"{spec.path}.dpDim", module=name, reason=reason)


def _route(spec: HookSpec, site: Site | None, mesh: Mesh) -> Route:
    if not spec.edits:
        return "none" if spec.save == "none" else "read"
    whole = site is not None and site.layout.kind == "replicated"
    if spec.graph is not None and _is_local(spec, spec.graph, site, mesh):
        return "local"
    cut = mesh.dp > 1 and spec.hook_type != "tensor" and (spec.dp_dim is not None or batch_dim(site) is not None)
    return "broadcast" if whole and not cut and mesh.tp * mesh.dp > 1 else "root"


def _is_local(spec: HookSpec, graph: Graph, site: Site | None, mesh: Mesh) -> bool:
    """Copies hold different rows, and only the root knows which tokens of all are chosen."""
    if mesh.dp > 1 and spec.hook_type != "tensor":
        return False
    dim = site.layout.dim if site is not None and mesh.tp > 1 else None
    return graph.is_local(None if dim is None or site is None else dim - len(site.shape))
