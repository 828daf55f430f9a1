"""A seeded sample of docs/drawn-jobs.md; PATCHBAY_SEED chooses another one, `npm run drawn` does all of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from families.conftest import OnMesh
from families.drawn import examine_drawn
from families.drawn_page import DRAWN, DTYPES, MESHES, key
from support.checkpoints import make_checkpoint

SEED = int(os.environ.get("PATCHBAY_SEED", "0"))
JOBS = 6
# An architecture per mesh that leaves something to shard there.
FAMILY = {"ep 2": "mixtral", "tp 2": "gemma3", "tp 4": "qwen3", "pp 2": "mistral", "fsdp 2": "gpt2"}
ROWS = [
    (mesh, family, dtype)
    for mesh in MESHES
    for family in [FAMILY.get(mesh, "llama")]
    for dtype in DTYPES
    if dtype == "float32" or mesh in ("tp 2", "dp 2", "pp 2 x tp 2")
]


@pytest.mark.parametrize(("on", "family", "dtype"), ROWS, indirect=["on"])
def test_jobs_equal_plain_torch(on: OnMesh, family: str, dtype: str, tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / family, family)
    description = on.gang.load(path, dtype=dtype)
    tally = examine_drawn(on.gang, path, description, dtype, count=JOBS, number=SEED)
    assert tally.jobs >= JOBS / 2, "most drawn jobs count"


@pytest.mark.parametrize(("mesh", "family", "dtype"), ROWS)
def test_the_page_has_it(mesh: str, family: str, dtype: str) -> None:
    assert key(family, mesh, dtype) in DRAWN.read_text(encoding="utf-8"), "run `npm run drawn`"
