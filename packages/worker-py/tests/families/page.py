"""docs/models.md: the matrix of architectures and meshes as a page. Not here: how a cell comes about (matrix.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from families.matrix import Findings, examine, summary
from patchbay_worker.errors import PatchbayError
from support.checkpoints import FAMILIES
from support.gang import Gang

PAGE: Final = Path(__file__).parents[4] / "docs/models.md"
MESHES: Final[dict[str, dict[str, Any]]] = {
    "tp 1": {"tp": 1},
    "tp 2": {"tp": 2},
    "tp 4": {"tp": 4},
    "ep 2": {"tp": 2, "experts": True},
    "pp 2": {"pp": 2, "tp": 1},
    "dp 2": {"dp": 2, "tp": 1},
    "fsdp 2": {"dp": 2, "tp": 1, "fsdp": True},
    "fsdp 2 x tp 2": {"dp": 2, "tp": 2, "fsdp": True},
}
HEAD: Final = """<!-- Written by `npm run models`. -->
# Architectures

Random weights from configs of transformers, two to four layers. For every module of the first layer and outside of
the layers, the first tensor of its output (`forward`, `full_backward_pre`) and of its arguments (`forward_pre`,
`full_backward`) is read and edited on each mesh and held against plain torch hooks and autograd on the unsharded
model, as are the weights and their gradients (`tensor`). The tolerance is 2e-5 of the largest expected value, at least
of 1. A number counts the sites that are equal; (-n) counts those that are refused or missing, with the reason below:
a site is never served with other numbers. *Unused*: the edit equals plain torch's and moves the logits by less than
1e-3, in both. A seeded sample of this page runs in `npm test`.

| architecture | config | mesh | forward | forward_pre | full_backward_pre | full_backward | tensor |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def cell(gang: Gang, family: str, folder: Path) -> Findings | PatchbayError:
    """A mesh may be refused as a whole."""
    try:
        return examine(gang, family, folder)
    except PatchbayError as problem:
        if problem.code not in ("PB_NOT_SHARDABLE", "PB_NOT_DIVISIBLE"):
            raise
        return problem


def row(family: str, mesh: str, found: Findings | PatchbayError) -> str:
    config = type(FAMILIES[family]()).__name__
    cells = [found.message, "", "", "", ""] if isinstance(found, PatchbayError) else list(summary(found))
    return f"| {family} | `{config}` | {mesh} | {' | '.join(cells)} |"


def details(family: str, found: dict[str, Findings | PatchbayError]) -> str:
    lines = [f"## {family}", ""]
    for mesh, each in found.items():
        if isinstance(each, PatchbayError):
            continue
        lines += [f"- {mesh}, sharded: {', '.join(f'`{site}`' for site in each.sharded)}"] if each.sharded else []
        lines += [f"- {mesh}, unused: {', '.join(f'`{site}`' for site in each.unused)}"] if each.unused else []
        lines += [f"- {mesh}, refused: `{site}`: {reason}" for site, reason in each.refused.items()]
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def write(folder: Path) -> None:
    """The whole matrix; a few minutes."""
    found: dict[str, dict[str, Findings | PatchbayError]] = {family: {} for family in FAMILIES}
    for mesh, sizes in MESHES.items():
        with Gang(**sizes) as gang:
            for family in FAMILIES:
                print(f"{mesh} {family}", flush=True)
                found[family][mesh] = cell(gang, family, folder / mesh)
    rows = [row(family, mesh, each) for family, cells in found.items() for mesh, each in cells.items()]
    sections = [text for family, cells in found.items() if (text := details(family, cells))]
    PAGE.write_text(HEAD + "\n".join(rows) + "\n\n" + "\n".join(sections), encoding="utf-8")
