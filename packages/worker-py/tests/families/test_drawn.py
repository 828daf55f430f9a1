"""A seeded sample of docs/drawn-jobs.md; PATCHBAY_SEED chooses another one, `npm run drawn` does all of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from families.conftest import OnMesh
from families.drawn import examine_drawn
from families.drawn_page import DRAWN, DTYPES, key
from patchbay_worker.errors import PatchbayError
from support.checkpoints import make_checkpoint

SEED = int(os.environ.get("PATCHBAY_SEED", "0"))
JOBS = 6
MASK = {"name": "h", "moduleName": "model.layers.0", "hookType": "forward_pre", "unpackIdx": 1}
ROWS = [("tp 2", "gemma3"), ("pp 2 x tp 2", "llama")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("on", "family"), ROWS, indirect=["on"])
def test_jobs_equal_plain_torch(on: OnMesh, family: str, dtype: str, tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / family, family)
    description = on.gang.load(path, dtype=dtype)
    tally = examine_drawn(on.gang, path, description, dtype, count=JOBS, number=SEED)
    assert tally.jobs >= JOBS / 2, "most drawn jobs count"
    assert key(family, on.mesh, dtype) in DRAWN.read_text(encoding="utf-8"), "run `npm run drawn`"


@pytest.mark.parametrize("on", ["dp 2"], indirect=True)
def test_a_tensor_that_only_some_copies_have_is_refused(on: OnMesh, tmp_path: Path) -> None:
    """What is never drawn: a copy whose rows are all of one length has no mask, and no copy may wait for another's."""
    on.gang.load(make_checkpoint(tmp_path / "llama", "llama"))
    run = {"name": "r", "inputs": {"tokenIds": [[5, 9, 31], [7, 3]]}}
    with pytest.raises(PatchbayError, match="some of them none") as caught:
        on.gang.run({"hooks": [MASK], "runs": [run]})
    assert caught.value.code == "PB_NOT_SHARDABLE"
    both = {**run, "inputs": {"tokenIds": [[5, 9, 31], [7, 3], [60, 61, 62], [5, 4]]}}
    (entry,) = on.gang.run({"hooks": [MASK], "runs": [both]}).result["activations"]
    assert entry["shape"] == [4, 1, 3, 3]
