"""A cancel ends a pass between two layers, on all ranks of all stages and copies at one place, and the gang goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from patchbay_worker.errors import PatchbayError
from support.gang import Gang

MESHES = [{"tp": 1}, {"tp": 2}, {"dp": 2, "tp": 2}, {"pp": 2, "tp": 1}, {"pp": 2, "tp": 2}]
INPUTS = {"tokenIds": [[5, 9, 31, 4, 17], [7, 3, 100, 8, 50]]}
ENDLESS = "def edit(current_module, inputs, save_ctx, modules):\n    while True: pass\n"
PLAIN: dict[str, Any] = {"name": "r", "inputs": INPUTS, "return": {"logits": "all"}}
NEXT_TOKEN = {"loss": {"kind": "nextToken"}}
MODES: dict[str, dict[str, Any]] = {
    "forward": {},
    "generate": {"mode": "generate", "maxNewTokens": 50},
    "backward": {"mode": "backward", **NEXT_TOKEN},
    "train": {"mode": "train", "steps": 50, "optimizer": {"kind": "sgd", "lr": 0.1}, **NEXT_TOKEN},
}


@pytest.fixture(scope="module", params=MESHES, ids=lambda mesh: "".join(f"{k}{v}" for k, v in mesh.items()))
def gang(request: pytest.FixtureRequest, llama: Path) -> Iterator[Gang]:
    with Gang(**request.param) as started:
        started.load(llama)
        yield started


def document(mode: str) -> dict[str, Any]:
    first = {"name": "endless", "moduleName": "model.layers.0", "edit": {"kind": "python", "source": ENDLESS}}
    last = {"name": "last", "moduleName": "model.layers.3.mlp.gate_proj", "edit": {"kind": "python", "source": ENDLESS}}
    module = {"kind": "linear", "inFeatures": 4, "outFeatures": 4}
    return {
        "modules": {"m": module} if mode == "train" else {},
        "hooks": [first, last],
        "limits": {"editTimeoutMs": 60_000},
        "runs": [{"name": "r", "inputs": INPUTS, **MODES[mode]}],
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_pass_leaves_no_rank_behind(gang: Gang, mode: str) -> None:
    weights = gang.state()
    gang.prepare(document(mode))
    gang.record()
    gang.start()
    gang.cancel("enough")
    with pytest.raises(PatchbayError) as caught:
        gang.finish()
    assert (caught.value.code, "enough" in caught.value.message) == ("PB_JOB_CANCELLED", True)
    moved = [len(record) for record in gang.recorded()]
    whole = _collectives_of_a_pass(gang)
    if gang.tp > 1:
        assert max(moved) < whole, "it ended before the last layer"
    assert gang.state() == weights


def _collectives_of_a_pass(gang: Gang) -> int:
    """Also shows that the next job runs."""
    reads = {"name": "read", "moduleName": "model.layers.[03]"}
    gang.prepare({"hooks": [reads], "runs": [PLAIN]})
    gang.record()
    gang.go()
    return max(len(record) for record in gang.recorded())
