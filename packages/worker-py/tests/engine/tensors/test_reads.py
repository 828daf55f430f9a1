"""What a read moves, when, and as what: nothing for replicated tensors, only what was chosen, cast before it moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from patchbay_worker.errors import PatchbayError
from support.gang import Gang
from support.plain_hooks import plain_model, plain_reads

ROWS = [[5, 9, 31, 4, 17], [7, 3, 100, 8, 50]]
RUN: dict[str, Any] = {"name": "r", "inputs": {"tokenIds": ROWS}}
AGREEMENT = ("broadcast", (0, 1), (2,))  # engine/run/brake.py
WHOLE, CUT = "model.layers.1", "model.layers.1.mlp.gate_proj"


def read(module: str, **more: Any) -> dict[str, Any]:
    return {"hooks": [{"name": "h", "moduleName": module, **more}], "runs": [RUN]}


def edit_of(module: str) -> dict[str, Any]:
    source = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs * 1.5\n"
    return {"name": "e", "moduleName": module, "edit": {"kind": "python", "source": source}, "save": "none"}


def gathers(pair: Gang, document: dict[str, Any]) -> list[Any]:
    """Beyond those of the same job without hooks. How often the ranks agree to go on depends on the clock."""
    records = []
    for each in ({**document, "hooks": []}, document):
        pair.record()
        pair.run(each)
        records.append([entry for entry in pair.recorded()[1] if entry != AGREEMENT])
    assert records[1][: len(records[0])] == records[0] or len(records[1]) > len(records[0])
    return [entry for entry in records[1] if entry not in records[0]]


def test_a_replicated_tensor_moves_nothing(pair: Gang) -> None:
    assert gathers(pair, read(WHOLE)) == []
    report = pair.run(read(WHOLE)).report("h")
    assert (report["route"], report["gatheredBytes"]) == ("read", 0)


def test_only_what_was_chosen_moves(pair: Gang, llama: Path) -> None:
    where = {"rows": [1], "positions": [-1, 0]}
    moved = gathers(pair, read(CUT, where=where))
    assert [(entry[0], entry[2]) for entry in moved] == [("gather", (1, 2, 64))]  # of 128, on two ranks
    outcome = pair.run(read(CUT, where=where))
    assert outcome.report("h")["gatheredBytes"] == 2 * 64 * 4
    want = plain_reads(llama, ROWS, [CUT], "forward")[CUT][1:, [4, 0]]
    torch.testing.assert_close(outcome.captured(f"r/h/{CUT}/0"), want, atol=2e-5, rtol=0)


def test_a_cast_comes_before_the_move(gang: Gang, llama: Path) -> None:
    outcome = gang.run(read(CUT, dtype="bfloat16"))
    got = outcome.captured(f"r/h/{CUT}/0")
    assert (got.dtype, outcome.result["activations"][0]["dtype"]) == (torch.bfloat16, "bfloat16")
    want = plain_reads(llama, ROWS, [CUT], "forward")[CUT]
    torch.testing.assert_close(got.float(), want, atol=2e-5, rtol=2**-8)  # half a step of bfloat16
    assert outcome.report("h")["gatheredBytes"] == want.numel() * 2 * (gang.tp - 1) // gang.tp


def test_a_cast_leaves_the_model_and_the_edit_alone(pair: Gang) -> None:
    hook = {**edit_of(CUT), "save": "post", "dtype": "float16"}
    run = {**RUN, "return": {"logits": "all"}}
    cast, plain = (pair.run({"hooks": [each], "runs": [run]}) for each in (hook, {**hook, "dtype": "float32"}))
    assert torch.equal(cast.tensor("r/logits"), plain.tensor("r/logits"))
    saved = [each.captured(f"r/e/{CUT}/0") for each in (cast, plain)]
    assert torch.equal(saved[0], saved[1].half())


def test_token_ids_are_not_cast(pair: Gang) -> None:
    hook = {"name": "h", "moduleName": "model.embed_tokens", "hookType": "forward_pre", "dtype": "float16"}
    assert pair.run({"hooks": [hook], "runs": [RUN]}).captured("r/h/model.embed_tokens/0").tolist() == ROWS


def test_reads_go_by_their_own_group_and_are_awaited_at_the_end(pair: Gang) -> None:
    """The model and the edits never wait for a read: what follows it is issued before it has arrived."""
    document = read("model.layers.*.mlp.gate_proj")
    document["hooks"].append(edit_of("model.layers.3.mlp.up_proj"))
    pair.record(detailed=True)
    pair.run(document)
    for record in pair.recorded():
        group = next(entry[3] for entry in record if entry[0] == "gather")
        reads = [(index, entry) for index, entry in enumerate(record) if entry[0] != "message" and entry[3] == group]
        assert [entry[0] for _, entry in reads] == ["gather"] * 4 + ["wait"] * 4, "nothing else is on the reads' group"
        edit = max(index for index, entry in enumerate(record) if entry[0] == "message")
        waits = [index for index, entry in reads if entry[0] == "wait"]
        assert min(waits) > edit


SLICES: list[tuple[str, list[list[int] | None], str, tuple[slice, ...]]] = [
    ("model.layers.1.mlp.gate_proj.weight", [[60, 70]], "[60:70]", (slice(60, 70),)),
    ("model.layers.1.mlp.down_proj.weight", [None, [3, 128]], "[:,3:128]", (slice(None), slice(3, 128))),
    ("model.norm.weight", [[0, 1]], "[0:1]", (slice(0, 1),)),
]


def test_parts_of_parameters(gang: Gang, llama: Path) -> None:
    wanted: list[Any] = [{"name": name, "slice": part} for name, part, _, _ in SLICES]
    outcome = gang.run({"runs": [RUN], "return": {"parameters": [*wanted, "model.norm.weight"]}})
    for name, _, key, part in SLICES:
        got = outcome.tensor(name + key, "parameters.safetensors")
        assert torch.equal(got, plain_model(llama).get_parameter(name)[part])
    assert outcome.tensor("model.norm.weight", "parameters.safetensors").shape == (64,)
    names = [(each["name"], each["tensor"]) for each in outcome.result["parameters"]]
    assert names == [(n, n + key) for n, _, key, _ in SLICES] + [("model.norm.weight", "model.norm.weight")]


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ([[0, 129]], "slice[0]"),
        ([[5, 5]], "slice[0]"),
        ([None, [64, 65]], "slice[1]"),
        ([None, None, None], "slice[2]"),
    ],
)
def test_parts_that_are_not_there(pair: Gang, part: list[Any], path: str) -> None:
    document = {"runs": [RUN], "return": {"parameters": [{"name": "model.layers.0.mlp.up_proj.weight", "slice": part}]}}
    with pytest.raises(PatchbayError) as caught:
        pair.run(document)
    assert (caught.value.code, caught.value.path) == ("PB_DOCUMENT_INVALID", f"return.parameters[0].{path}")
