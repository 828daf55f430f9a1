"""A copy whose rows are all of one length has no mask while another has: no copy may wait for the other's part."""

from __future__ import annotations

from pathlib import Path

import pytest

from families.conftest import OnMesh
from patchbay_worker.errors import PatchbayError
from support.checkpoints import make_checkpoint

MASK = {"name": "h", "moduleName": "model.layers.0", "hookType": "forward_pre", "unpackIdx": 1}


@pytest.mark.parametrize("on", ["dp 2"], indirect=True)
def test_a_tensor_that_only_some_copies_have_is_refused(on: OnMesh, tmp_path: Path) -> None:
    on.gang.load(make_checkpoint(tmp_path / "llama", "llama"))
    run = {"name": "r", "inputs": {"tokenIds": [[5, 9, 31], [7, 3]]}}
    with pytest.raises(PatchbayError, match="some of them none") as caught:
        on.gang.run({"hooks": [MASK], "runs": [run]})
    assert caught.value.code == "PB_NOT_SHARDABLE"
    both = {**run, "inputs": {"tokenIds": [[5, 9, 31], [7, 3], [60, 61, 62], [5, 4]]}}
    (entry,) = on.gang.run({"hooks": [MASK], "runs": [both]}).result["activations"]
    assert entry["shape"] == [4, 1, 3, 3]
