"""Where a tensor leaf of a module lives on the tp axis. Not here: how that is found out (shard_plan.py).

*axis* is of the mesh, *dim* is of a tensor. Shape symbols: B batch, S sequence, B*S both flattened, ? anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

LayoutKind = Literal["replicated", "sharded", "partial", "unknown"]
SiteKind = Literal["forward", "forward_pre"]
Dim = int | str
BATCH, SEQUENCE, TOKENS, ANY = "B", "S", "B*S", "?"


@dataclass(frozen=True)
class Layout:
    """`dim` is set for `sharded` only: every rank holds a contiguous tp-th of it, in rank order."""

    kind: LayoutKind
    dim: int | None = None
    reason: str | None = None

    @property
    def refused(self) -> bool:
        return self.kind in ("partial", "unknown")


@dataclass(frozen=True)
class Site:
    """One tensor leaf of a module's output (`forward`) or arguments (`forward_pre`)."""

    module: str
    kind: SiteKind
    leaf: int  # among the tensor leaves, depth first: what unpackIdx counts
    flat: int  # among all leaves, None included: stays when an optional tensor is absent
    shape: tuple[Dim, ...]  # full
    layout: Layout
    dtype: str
    stage: int = 0  # of the pipeline

    def local_shape(self, tp: int) -> list[Dim]:
        """The shape that each rank holds; equal on all of them, since sizes must divide."""
        local = list(self.shape)
        dim = self.layout.dim
        if dim is not None:
            size = local[dim]
            local[dim] = size // tp if isinstance(size, int) else size
        return local

    def to_json(self) -> dict[str, Any]:
        return {
            "module": self.module,
            "hookType": self.kind,
            "leaf": self.leaf,
            "shape": list(self.shape),
            "layout": self.layout.kind,
            "shardDim": self.layout.dim,
            "dtype": self.dtype,
            "reason": self.layout.reason,
        }


class SiteTable:
    """Sites by (module, kind). A module that the probe never called has none."""

    def __init__(self, sites: list[Site]) -> None:
        self.sites = sites
        self._leaves: dict[tuple[str, SiteKind], dict[int, Site]] = {}
        for site in sites:
            self._leaves.setdefault((site.module, site.kind), {})[site.flat] = site

    def leaves(self, module: str, kind: SiteKind) -> Mapping[int, Site]:
        """Flat position -> site; empty when the module was not called in the probe."""
        return self._leaves.get((module, kind), {})
