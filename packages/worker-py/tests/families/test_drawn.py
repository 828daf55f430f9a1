"""A seeded sample of docs/drawn-jobs.md; PATCHBAY_SEED chooses another one, `npm run drawn` does all of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from families.conftest import OnMesh
from families.drawn import examine_drawn
from families.drawn_page import DRAWN, DTYPES, key
from support.checkpoints import make_checkpoint

SEED = int(os.environ.get("PATCHBAY_SEED", "0"))
JOBS = 6
ROWS = [("tp 2", "gemma3"), ("pp 2 x tp 2", "llama")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("on", "family"), ROWS, indirect=["on"])
def test_jobs_equal_plain_torch(on: OnMesh, family: str, dtype: str, tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / family, family)
    description = on.gang.load(path, dtype=dtype)
    tally = examine_drawn(on.gang, path, description, dtype, count=JOBS, number=SEED)
    assert tally.jobs >= JOBS / 2, "most drawn jobs count"
    assert key(family, on.mesh, dtype) in DRAWN.read_text(encoding="utf-8"), "run `npm run drawn`"
