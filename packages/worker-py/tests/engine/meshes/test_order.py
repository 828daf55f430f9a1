"""Every rank issues the same collectives in the same order: on each group, what any two of its members did is equal."""

from __future__ import annotations

from typing import Any

import pytest

from patchbay_worker.errors import PatchbayError
from support.gang import Gang

ROWS = [[5, 9, 31, 4, 17], [7, 3], [60, 61, 62]]


def python(body: str) -> dict[str, str]:
    return {"kind": "python", "source": f"def edit(current_module, inputs, save_ctx, modules):\n    {body}"}


def document(edit: dict[str, str]) -> dict[str, Any]:
    """Reads and edits of sharded and replicated tensors, with gradients, a generation and a second run."""
    hooks = [
        {"name": "read", "moduleName": "model.layers.*.mlp.gate_proj"},
        {"name": "resid", "moduleName": "model.layers.*"},
        {"name": "some", "moduleName": "model.layers.1.mlp.up_proj", "where": {"positions": [-1]}},
        {"name": "edit", "moduleName": "model.layers.[13].mlp.up_proj", "edit": edit},
        {"name": "whole", "moduleName": "model.layers.2", "edit": python("return inputs * 1.1")},
        {"name": "grad", "moduleName": "model.layers.1.mlp.down_proj", "hookType": "full_backward"},
        {"name": "weight", "moduleName": "model.layers.0.mlp.up_proj.weight", "hookType": "tensor"},
    ]
    inputs = {"tokenIds": ROWS}
    runs = [
        {"name": "back", "mode": "backward", "inputs": inputs, "loss": {"kind": "nextToken"}},
        {"name": "story", "mode": "generate", "inputs": inputs, "maxNewTokens": 3},
    ]
    return {"hooks": hooks, "runs": runs, "return": {"parameters": ["model.layers.3.mlp.up_proj.weight"]}}


def check(records: list[list[Any]], least: int) -> None:
    groups = {ranks for record in records for _, ranks, _ in record}
    assert groups, "collectives were recorded"
    for group in groups:
        streams = [[entry for entry in records[rank] if entry[1] == group] for rank in group]
        assert all(stream == streams[0] for stream in streams), f"group {group}"
    assert max(len(record) for record in records) >= least


def test_one_order_on_all_ranks(gang: Gang) -> None:
    gang.record()
    gang.run(document(python("return inputs.flip(-1)")))
    records = gang.recorded()
    if gang.tp > 1:
        check(records, 30)


def test_one_order_also_where_an_edit_fails(pair: Gang) -> None:
    pair.record()
    with pytest.raises(PatchbayError, match="PB_EDIT_FAILED"):
        pair.run(document(python("raise ValueError(1)")))
    check(pair.recorded(), 5)  # up to the layer at which the ranks agree to stop


def test_the_check_can_fail() -> None:
    with pytest.raises(AssertionError, match="group"):
        check([[("gather", (0, 1), (2,))], [("scatter", (0, 1), (2,))]], 1)
