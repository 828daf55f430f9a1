"""A hook as the job document states it, with defaults filled, and as it stands after compilation against a model.

Not here: reading the document (engine/job/job_spec.py), checking it (engine/job/compile_job.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from patchbay_worker.hooks.graph.graph import Graph
from patchbay_worker.sharding.layout import BATCH, SEQUENCE, TOKENS, Site, SiteKind

Route = Literal["none", "read", "local", "root", "broadcast"]
EDITING: Final[frozenset[Route]] = frozenset({"local", "root", "broadcast"})
Save = Literal["pre", "post", "none"]
HookType = Literal["forward", "forward_pre", "full_backward", "full_backward_pre", "tensor"]
GRADIENT_TYPES: Final[frozenset[HookType]] = frozenset({"full_backward", "full_backward_pre", "tensor"})


@dataclass(frozen=True)
class Span:
    """Positions from `start` to before `stop`; negative ones count from the end of the prompt."""

    start: int | None
    stop: int | None


@dataclass(frozen=True)
class Where:
    rows: tuple[int, ...] | None = None
    positions: tuple[int, ...] | Span | None = None
    steps: tuple[int, ...] | None = None

    @property
    def of_tokens(self) -> bool:
        """Whether it chooses tokens of a call; steps alone choose calls."""
        return self.rows is not None or self.positions is not None


@dataclass(frozen=True)
class HookSpec:
    """`path` leads to it in the document, for errors. Its edit is `source`, an index into the job's edit sources, or
    `graph`, or none.
    """

    name: str
    path: str
    hook_type: HookType
    expected_shape: tuple[int | None, ...] | None
    unpack_idx: int
    source: int | None
    save: Save
    where: Where | None
    groups: frozenset[str]
    dp_dim: int | None = None
    dtype: torch.dtype | None = None
    graph: Graph | None = None

    def cast(self, value: Tensor) -> Tensor:
        """As it is saved."""
        return value if self.dtype is None or not value.is_floating_point() else value.to(self.dtype)

    @property
    def kind(self) -> SiteKind:
        """Where the tensor lies: a gradient has the layout of the value that it is of."""
        return "forward" if self.hook_type in ("forward", "full_backward_pre") else "forward_pre"

    @property
    def of_gradients(self) -> bool:
        return self.hook_type in GRADIENT_TYPES

    @property
    def edits(self) -> bool:
        return self.source is not None or self.graph is not None


@dataclass(frozen=True)
class CompiledHook:
    """One hook on one module: a glob makes one of these per match. `parameter` is there for the type `tensor` only;
    `stage` is the pipeline stage that runs it.
    """

    spec: HookSpec
    module_name: str
    module: nn.Module
    leaves: Mapping[int, Site]  # flat position -> site; empty where the probe did not come by
    site: Site | None  # the leaf that unpackIdx meant in the probe
    route: Route
    parameter: nn.Parameter | None = None
    stage: int = 0


def token_dims(site: Site | None) -> Literal["rows", "flat"] | None:
    """How the leading dims hold the tokens: [B, S, ..], [B*S, ..], or not at all."""
    if site is None:
        return None
    if site.shape[:2] == (BATCH, SEQUENCE):
        return "rows"
    return "flat" if site.shape[:1] == (TOKENS,) else None


def batch_dim(site: Site | None) -> int | None:
    """The dim along which copies hold different rows: that of the batch, alone or flattened with the sequence."""
    if site is None:
        return None
    return next((dim for dim, size in enumerate(site.shape) if size in (BATCH, TOKENS)), None)
