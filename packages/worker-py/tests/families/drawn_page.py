"""docs/drawn-jobs.md: jobs drawn at random, by architecture, mesh and number type. A run of some of them replaces their
rows and leaves the others. Not here: what a row counts (drawn.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from families.drawn import EFFECT, FLOAT32, ROUNDINGS, Tally, examine_drawn
from families.page import MESHES as PAGE_MESHES
from families.page import PAGE
from patchbay_worker.errors import PatchbayError
from support.checkpoints import FAMILIES, make_checkpoint
from support.gang import Gang

DRAWN: Final = PAGE.with_name("drawn-jobs.md")
MESHES: Final[dict[str, dict[str, Any]]] = {
    **PAGE_MESHES,
    "dp 2 x tp 2": {"dp": 2, "tp": 2},
    "pp 2 x tp 2": {"pp": 2, "tp": 2},
}
DTYPES: Final = ("float32", "bfloat16")
EXPERTS: Final = ("mixtral", "qwen3_moe")
COLUMNS: Final = (
    *("forward", "forward_pre", "full_backward_pre", "full_backward", "tensor"),
    *("route read", "route broadcast", "route root", "edited", "where", "later leaf", "ragged"),
)
HEAD: Final = f"""<!-- Written by `npm run drawn`. -->
# Jobs drawn at random

A job is one to three hooks on any served site of the model, of any hook type, with or without an edit, `where`,
`unpackIdx` and `expectedShape`, over one to three prompts of two to six tokens, in a forward or a backward pass. It is
held against plain torch hooks on the unsharded model in one process: the logits, and everything that each hook saw. A
second pass holds every prompt against the same prompt alone, without padding, mask or positions. A job whose edits
move neither logits nor gradients by more than {EFFECT:g} is drawn anew.

**float32**: {FLOAT32:g} of the largest expected value, at least of 1. **bfloat16** is held against plain *bfloat16*.
No one number fits there, since half a unit lost in one layer grows in those behind it; but the model itself says how
far: the tolerance is {ROUNDINGS:g} times the largest difference between plain bfloat16 and plain float32 with the same
rounded weights, for that very tensor of that very job, and one unit of 2^-8. Two roundings of one computation are at
most twice that apart; partial sums of row-parallel maps are rounded once more before they are added up. *Worst* is the
largest difference in tolerances.

Architectures with experts are drawn in float32 only: which experts a token goes to is a comparison, and one rounding
more or less changes it; two plain bfloat16 runs that add up in another order differ just so.

The seed of a row is the number of jobs asked for; a failing job is shrunk to the smallest that fails. What has no row
has not been run yet. `npm test` runs a sample.

| architecture | mesh | numbers | jobs | worst | {" | ".join(COLUMNS)} |
| {" | ".join(["---"] * (5 + len(COLUMNS)))} |
"""


def key(family: str, mesh: str, dtype: str) -> str:
    return f"| {family} | {mesh} | {dtype} | "


def row(family: str, mesh: str, dtype: str, tally: Tally) -> str:
    cells = [str(tally.jobs), f"{tally.worst:.2f}", *(str(tally.hooks[column]) for column in COLUMNS)]
    return f"{key(family, mesh, dtype)}{' | '.join(cells)} |"


def rows(gang: Gang, mesh: str, families: Iterable[str], folder: Path, count: int) -> Iterable[str]:
    """Of one mesh; what the mesh refuses as a whole stands in docs/models.md."""
    for family in families:
        path = make_checkpoint(folder / family.replace(" ", "_"), family)
        for dtype in DTYPES[: 1 if family in EXPERTS else None]:
            try:
                description = gang.load(path, dtype=dtype)
            except PatchbayError as problem:
                if problem.code not in ("PB_NOT_SHARDABLE", "PB_NOT_DIVISIBLE"):
                    raise
                continue
            text = row(family, mesh, dtype, examine_drawn(gang, path, description, dtype, count=count, number=count))
            print(text, flush=True)
            yield text


def write(folder: Path, meshes: Iterable[str], families: Iterable[str], count: int) -> None:
    for mesh in meshes:
        with Gang(**MESHES[mesh]) as gang:
            for text in rows(gang, mesh, families, folder / mesh, count):
                _replace(text)


def _replace(text: str) -> None:
    """Row by row, so that a run that is broken off has not been for nothing."""
    before = DRAWN.read_text(encoding="utf-8").splitlines() if DRAWN.exists() else []
    order = [key(family, mesh, dtype) for family in FAMILIES for mesh in MESHES for dtype in DTYPES]
    found = {each: line for line in [*before, text] for each in order if line.startswith(each)}
    DRAWN.write_text(HEAD + "\n".join(found[each] for each in order if each in found) + "\n", encoding="utf-8")
