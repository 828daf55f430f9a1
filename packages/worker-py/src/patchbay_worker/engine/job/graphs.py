"""Graph edits of a job before it runs: their constants, and whether they fit the tensors that its runs will bring.

Not here: names (hooks/graph/read.py); tensors whose shape only a run knows, which are checked when they come.
"""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
import torch
from safetensors import SafetensorError

from patchbay_worker.engine.job.compile_job import CompiledJob, CompiledRun
from patchbay_worker.engine.job.inputs import Fetch
from patchbay_worker.errors import error
from patchbay_worker.hooks.graph.check import check_graph
from patchbay_worker.hooks.graph.graph import Graph
from patchbay_worker.hooks.spec import CompiledHook
from patchbay_worker.sandbox.limits import limits_of
from patchbay_worker.sharding.expected_shape import resolve


def prepare_graphs(compiled: CompiledJob, fetch: Fetch | None, maxima: Mapping[str, int]) -> None:
    """Every rank calls it. Without `fetch` only graphs that need no artifact are checked. `maxima` are the operator's.

    Raises PB_EDIT_GRAPH, PB_EDIT_SHAPE, PB_EDIT_DTYPE, PB_LIMIT_EXCEEDED, PB_ARTIFACT_CORRUPT.
    """
    graphs = [hook.graph for hook in compiled.request.hooks if hook.graph is not None]
    if not graphs:
        return
    limit_bytes = limits_of(compiled.request.limits, maxima).memory_bytes
    for graph in graphs:
        graph.limit_bytes = limit_bytes
        if fetch is not None:
            _load(graph, fetch)
    for run in compiled.runs:
        for each in run.hooks:
            own = each.spec.graph
            if own is not None and len(own.constants) == len(own.references):
                _check(own, each, run)


def _load(graph: Graph, fetch: Fetch) -> None:
    """A constant is the one tensor of its file, or the one of its name."""
    for name, digest in graph.references.items():
        path = f"{graph.path}.tensors.{name}"
        try:
            tensors = safetensors.torch.load(fetch(digest))
        except SafetensorError as failure:
            raise error("PB_ARTIFACT_CORRUPT", path=path, artifact=digest, reason=str(failure)) from failure
        found = tensors.get(name) if len(tensors) != 1 else next(iter(tensors.values()))
        if found is None:
            reason = f'it holds {len(tensors)} tensors and none is named "{name}"'
            raise error("PB_ARTIFACT_CORRUPT", path=path, artifact=digest, reason=reason)
        graph.constants[name] = found


def _check(graph: Graph, hook: CompiledHook, run: CompiledRun) -> None:
    """Where the whole tensor is seen, and its shape known: of the prompt."""
    site, where = hook.site, hook.spec.where
    if site is None or (where is not None and where.of_tokens):
        return
    shape = resolve(site.shape, len(run.batch.tokens), run.batch.width)
    sizes = tuple(size for size in shape if isinstance(size, int))
    if len(sizes) == len(shape):
        check_graph(graph, sizes, getattr(torch, site.dtype))
