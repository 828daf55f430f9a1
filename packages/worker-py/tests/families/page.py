"""docs/models.md: the matrix of architectures and meshes as a page. A run of some meshes replaces what it says of them.
Not here: how a cell comes about (matrix.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def details(mesh: str, found: Findings | PatchbayError) -> list[str]:
    if isinstance(found, PatchbayError):
        return []
    lines = [f"- {mesh}, sharded: {', '.join(f'`{site}`' for site in found.sharded)}"] if found.sharded else []
    lines += [f"- {mesh}, unused: {', '.join(f'`{site}`' for site in found.unused)}"] if found.unused else []
    return lines + [f"- {mesh}, refused: `{site}`: {reason}" for site, reason in found.refused.items()]


def write(folder: Path, meshes: Iterable[str] = MESHES) -> None:
    """The matrix, mesh by mesh, so that a run that is broken off has not been for nothing; a few minutes for all."""
    for mesh in meshes:
        with Gang(**MESHES[mesh]) as gang:
            found = {}
            for family in FAMILIES:
                print(f"{mesh} {family}", flush=True)
                found[family] = cell(gang, family, folder / mesh)
        _replace(mesh, found)


def _replace(mesh: str, found: Mapping[str, Findings | PatchbayError]) -> None:
    """What the page says of one mesh; the rest stays."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    rows = {line.split(" | ")[2] + line.split(" | ")[0]: line for line in lines if line.startswith("| ")}
    rows |= {f"{mesh}| {family}": row(family, mesh, each) for family, each in found.items()}
    notes = _notes(lines)
    for family, each in found.items():
        notes[family, mesh] = details(mesh, each)
    table = [rows[key] for family in FAMILIES for each in MESHES if (key := f"{each}| {family}") in rows]
    sections = []
    for family in FAMILIES:
        if of_family := [line for each in MESHES for line in notes.get((family, each), [])]:
            sections.append("\n".join([f"## {family}", "", *of_family]) + "\n")
    PAGE.write_text(HEAD + "\n".join(table) + "\n\n" + "\n".join(sections), encoding="utf-8")


def _notes(lines: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """By architecture and mesh the lines below the table."""
    notes: dict[tuple[str, str], list[str]] = {}
    family = ""
    for line in lines:
        if line.startswith("## "):
            family = line.removeprefix("## ")
        elif line.startswith("- "):
            notes.setdefault((family, line.removeprefix("- ").partition(", ")[0]), []).append(line)
    return notes
