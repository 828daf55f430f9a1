"""A hook as the job document states it, with defaults filled, and as it stands after compilation against a model.

Not here: reading the document (engine/job/job_spec.py), checking it (engine/job/compile_job.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from patchbay_worker.sharding.layout import BATCH, SEQUENCE, TOKENS, Site, SiteKind

Route = Literal["none", "read", "root", "broadcast"]
Save = Literal["pre", "post", "none"]


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


@dataclass(frozen=True)
class HookSpec:
    """`path` leads to it in the document, for errors. `source` is an index into the job's edit sources."""

    name: str
    path: str
    kind: SiteKind
    expected_shape: tuple[int | None, ...] | None
    unpack_idx: int
    source: int | None
    save: Save
    where: Where | None
    groups: frozenset[str]

    @property
    def edits(self) -> bool:
        return self.source is not None


@dataclass(frozen=True)
class CompiledHook:
    """One hook on one module: a glob makes one of these per match."""

    spec: HookSpec
    module_name: str
    module: nn.Module
    leaves: Mapping[int, Site]  # flat position -> site; empty where the probe did not come by
    site: Site | None  # the leaf that unpackIdx meant in the probe
    route: Route


def token_dims(site: Site | None) -> Literal["rows", "flat"] | None:
    """How the leading dims hold the tokens: [B, S, ..], [B*S, ..], or not at all."""
    if site is None:
        return None
    if site.shape[:2] == (BATCH, SEQUENCE):
        return "rows"
    return "flat" if site.shape[:1] == (TOKENS,) else None
