"""A job with hooks of every route in passes of every kind, and the order of what its ranks did together."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from support.recorder import Entry

ROWS = [[5, 9, 31, 4, 17], [7, 3], [60, 61, 62]]


def python(body: str) -> dict[str, str]:
    return {"kind": "python", "source": f"def edit(current_module, inputs, save_ctx, modules):\n    {body}"}


def document(edit: dict[str, Any]) -> dict[str, Any]:
    """Reads and edits of sharded and replicated tensors, with gradients, a generation and a second run."""
    hooks = [
        {"name": "read", "moduleName": "model.layers.*.mlp.gate_proj"},
        {"name": "resid", "moduleName": "model.layers.*"},
        {"name": "some", "moduleName": "model.layers.1.mlp.up_proj", "where": {"positions": [-1]}},
        {"name": "edit", "moduleName": "model.layers.[13].mlp.up_proj", "edit": edit},
        {"name": "whole", "moduleName": "model.layers.2", "edit": python("return inputs * 1.1")},
        {"name": "grad", "moduleName": "model.layers.1.mlp.down_proj", "hookType": "full_backward"},
        {
            "name": "turn",
            "moduleName": "model.layers.3.mlp.up_proj",
            "hookType": "full_backward_pre",
            "edit": python("return inputs * 2"),
        },
        {"name": "weight", "moduleName": "model.layers.0.mlp.up_proj.weight", "hookType": "tensor"},
    ]
    inputs = {"tokenIds": ROWS}
    runs = [
        {"name": "back", "mode": "backward", "inputs": inputs, "loss": {"kind": "nextToken"}},
        {"name": "story", "mode": "generate", "inputs": inputs, "maxNewTokens": 3},
    ]
    return {"hooks": hooks, "runs": runs, "return": {"parameters": ["model.layers.3.mlp.up_proj.weight"]}}


def check(records: list[list[Entry]], least: int) -> None:
    """Any two ranks went through everything that both of them take part in, on whatever group, in one order."""
    for pair in combinations(range(len(records)), 2):
        first, second = ([entry for entry in records[rank] if set(pair) <= set(entry[1])] for rank in pair)
        assert first == second, f"ranks {pair}"
    assert min(len(record) for record in records) >= least
