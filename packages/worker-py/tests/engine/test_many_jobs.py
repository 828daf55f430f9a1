"""One gang, many jobs of every mode (PATCHBAY_JOBS): nothing stays behind on the model, memory stops growing."""

from __future__ import annotations

import os
from typing import Any, Final

import psutil
import pytest

from patchbay_worker.errors import PatchbayError
from support.gang import Gang

ROWS: Final = [[5, 9, 31, 4, 17], [7, 3]]
#: For what is no tensor, which are counted: allocators keep what they have had once.
SLACK: Final = 6 << 20
WARM, MORE = 10, int(os.environ.get("PATCHBAY_JOBS", "30"))


def python(body: str) -> dict[str, str]:
    return {"kind": "python", "source": f"def edit(current_module, inputs, save_ctx, modules):\n    {body}"}


def documents() -> list[dict[str, Any]]:
    inputs = {"tokenIds": ROWS}
    read = {"name": "read", "moduleName": "model.layers.*.mlp.gate_proj"}
    edit = {"name": "edit", "moduleName": "model.layers.1.mlp.up_proj", "edit": python("return inputs * 1.5")}
    raises = {"name": "raises", "moduleName": "model.layers.2", "edit": python("raise ValueError('mine')")}
    weight = {"name": "w", "moduleName": "model.layers.1.mlp.up_proj.weight", "hookType": "tensor"}
    loss = {"kind": "nextToken"}
    adapter = {"a": {"kind": "linear", "inFeatures": 64, "outFeatures": 64}}
    adapt = {"name": "adapt", "moduleName": "model.layers.2", "edit": python("return inputs + modules['a'](inputs)")}
    fit = {"mode": "train", "inputs": inputs, "loss": loss, "steps": 2, "optimizer": {"kind": "adam", "lr": 0.01}}
    return [
        {"hooks": [read, edit], "runs": [{"inputs": inputs, "return": {"logits": "all"}}]},
        {"hooks": [edit], "runs": [{"mode": "generate", "inputs": inputs, "maxNewTokens": 3}]},
        {"hooks": [read, edit, weight], "runs": [{"mode": "backward", "inputs": inputs, "loss": loss}]},
        {"modules": adapter, "hooks": [adapt], "runs": [fit]},
        {"hooks": [read, edit, raises], "runs": [{"mode": "backward", "inputs": inputs, "loss": loss}]},
    ]


def run_all(gang: Gang, count: int) -> None:
    jobs = documents()
    for index in range(count):
        document = jobs[index % len(jobs)]
        if index % len(jobs) == len(jobs) - 1:
            with pytest.raises(PatchbayError, match="mine"):
                gang.run(document)
        else:
            gang.run(document)  # which asserts that weights, buffers and hooks are what they were


def held(gang: Gang) -> list[int]:
    return [psutil.Process(pid).memory_info().rss for pid in gang.pids]


def test_memory_stops_growing(pair: Gang) -> None:
    run_all(pair, WARM)
    before, objects = held(pair), pair.tensors()
    run_all(pair, MORE)
    after = held(pair)
    assert pair.tensors() == objects, "tensors that no job needs any more"
    grown = [late - early for early, late in zip(before, after, strict=True)]
    assert max(grown) < SLACK, f"{max(grown) >> 10} KiB more after {MORE} jobs"
