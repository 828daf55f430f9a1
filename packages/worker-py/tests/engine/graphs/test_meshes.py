"""Graph edits over copies and pipeline stages: what plain hooks give on the unsharded model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from patchbay_worker.errors import PatchbayError
from support import order
from support.gang import Gang
from support.plain_gradients import plain_gradients
from support.plain_hooks import plain_logits

from .test_jobs import ATOL, EFFECT, GATE, NARROW, RUN, TOKENS, WIDE, hook, next_token, run
from .test_read import step

MESHES: list[dict[str, Any]] = [
    {"dp": 2, "tp": 1},
    {"dp": 2, "tp": 2},
    {"dp": 2, "tp": 1, "fsdp": True},
    {"pp": 2, "tp": 1},
    {"pp": 2, "tp": 2},
]
LATE = "model.layers.3"


@pytest.fixture(scope="module", params=MESHES, ids=lambda mesh: "".join(f"{k}{v}" for k, v in mesh.items()))
def gang(request: pytest.FixtureRequest, llama: Path) -> Iterator[Gang]:
    with Gang(**request.param) as started:
        started.load(llama)
        yield started


@pytest.mark.parametrize("save", ["pre", "post", "none"])
def test_graphs_on_every_stage_and_copy(gang: Gang, llama: Path, save: str) -> None:
    early, stored = hook(GATE, step("add", "x", "v"), save=save, v=WIDE)
    late, more = hook(LATE, step("mul", "x", "v"), save=save, v=NARROW)
    hooks = [{**early, "name": "early"}, {**late, "name": "late"}]
    outcome = gang.run({"hooks": hooks, "runs": [RUN]}, stored | more)
    edits = [(GATE, "forward", lambda x: x + WIDE), (LATE, "forward", lambda x: x * NARROW)]
    want = plain_logits(llama, TOKENS, *edits)
    assert (want - plain_logits(llama, TOKENS)).abs().max() > EFFECT
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=ATOL * float(want.abs().max()), rtol=0)
    for name in ("early", "late"):
        assert (outcome.report(name)["calls"], outcome.report(name)["rowsTouched"]) == (1, 10)
    copies = gang.mesh["dp"] > 1
    assert (outcome.report("late")["route"] == "local") != copies, "copies hold different rows: the root edits them all"


def test_tokens_are_chosen_and_gradients_flow(gang: Gang, llama: Path) -> None:
    edit, stored = hook(GATE, step("mul", "x", 3), step("add", "y", "v"), where={"positions": [0, 2]}, v=WIDE)
    edit["edit"]["steps"][0]["as"] = "y"
    loss = {"mode": "backward", "loss": {"kind": "nextToken"}}
    first = "model.layers.0"
    seen = {"name": "g", "moduleName": first, "hookType": "full_backward_pre"}
    outcome = gang.run({"hooks": [edit, seen], "runs": [{**RUN, **loss}]}, stored)

    def plain(x: torch.Tensor) -> torch.Tensor:
        chosen = torch.zeros(5, 1, dtype=torch.bool)
        chosen[[0, 2]] = True
        return torch.where(chosen, x * 3 + WIDE, x)

    want = plain_gradients(llama, TOKENS, next_token, watched=[first], edits=[(GATE, "forward", plain)])
    got = outcome.tensor(f"r/g/{first}/0", "gradients.safetensors")
    torch.testing.assert_close(got, want.of_output[first], atol=ATOL * max(1, float(got.abs().max())), rtol=0)
    assert outcome.report("h")["rowsTouched"] == 4


@pytest.mark.parametrize("steps", [[step("mul", "x", 0.5)], [step("cumsum", "x", dim=-1)]], ids=["apart", "whole"])
def test_every_rank_has_the_same_collectives_in_the_same_order(gang: Gang, steps: list[dict[str, Any]]) -> None:
    gang.record()
    gang.run(order.document({"kind": "graph", "steps": steps}))
    order.check(gang.recorded(), 5)


def test_a_refusal_on_the_way_leaves_nobody_waiting(gang: Gang) -> None:
    ragged = {**RUN, "inputs": {"tokenIds": [[5, 9, 31, 4, 17], [7, 3]]}}
    for module in (GATE, LATE):
        with pytest.raises(PatchbayError, match="padding of shorter rows"):
            run(gang, hook(module, step("softmax", "x", dim=-2)), ragged)
        assert run(gang, hook(module, step("mul", "x", 2))).report("h")["rowsTouched"] == 10
