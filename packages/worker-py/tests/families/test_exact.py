"""I15 and I24: two relations that need no reference. I24: pipeline stages send what they would have handed on, so every
bit is that of the model in one process, in float32 and in bfloat16. I15: gradients along a path between two prompts add
up to the difference at its ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from families.conftest import OnMesh
from families.draw import Drawn
from families.drawn import captures, whole_model
from families.edits import source_of
from families.plain_job import PlainRun
from support.checkpoints import make_checkpoint

A, B = [5, 9, 31, 4, 17], [7, 3, 100, 8, 50]
TARGET, FOIL, POINTS = 11, 90, 64


@pytest.mark.parametrize("on", ["pp 2"], indirect=True)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_i24_stages_are_one_process_to_the_bit(on: OnMesh, dtype: str, tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / "llama", "llama")
    on.gang.load(path, dtype=dtype)
    model = whole_model(path, dtype)
    count = len(model.model.layers)
    edit = {"kind": "python", "source": source_of("mix")}
    hooks: list[dict[str, Any]] = [
        {"name": f"read{layer}", "moduleName": f"model.layers.{layer}", "hookType": "forward", "unpackIdx": 0}
        for layer in range(count)
    ]
    hooks += [
        {
            "name": f"edit{layer}",
            "moduleName": f"model.layers.{layer}.mlp.gate_proj",
            "hookType": "forward",
            "unpackIdx": 0,
        }
        | {"edit": edit}
        for layer in (0, count - 1)
    ]
    run = {"name": "r", "inputs": {"tokenIds": [A, B[:3]]}, "return": {"logits": "all"}}
    job = Drawn({"hooks": hooks, "runs": [run]}, {})
    want, unedited = PlainRun(model, job).run(), PlainRun(model, job, edited=False).run()
    assert (want.logits - unedited.logits).abs().max() > 1e-3
    outcome = on.gang.run(job.document)
    assert torch.equal(outcome.tensor("r/logits"), want.logits)
    for hook in hooks:
        (value,) = captures(outcome, hook)
        assert torch.equal(value, want.seen[hook["name"]][0]), hook["name"]


@pytest.mark.parametrize("on", ["tp 2", "pp 2"], indirect=True)
def test_i15_integrated_gradients_are_complete(on: OnMesh, tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / "llama", "llama")
    on.gang.load(path)
    site = "model.embed_tokens"
    keep = "def edit(current_module, inputs, save_ctx, modules):\n    save_ctx[current_module.run] = inputs.clone()\n"
    between = f"""
def edit(current_module, inputs, save_ctx, modules):
    part = (torch.arange({POINTS}) + 0.5) / {POINTS}
    return save_ctx["a"] + part[:, None, None] * (save_ctx["b"] - save_ctx["a"])
"""
    hooks = [
        {"name": "keep", "moduleName": site, "edit": {"kind": "python", "source": f"{keep}    return inputs\n"}},
        {"name": "path", "moduleName": site, "edit": {"kind": "python", "source": between}},
        {"name": "gradient", "moduleName": site, "hookType": "full_backward_pre"},
    ]
    ends = [
        {"name": name, "inputs": {"tokenIds": [row]}, "hooks": {"names": ["keep"]}, "return": {"logits": "last"}}
        for name, row in (("a", A), ("b", B))
    ]
    steps = {
        "name": "steps",
        "mode": "backward",
        "inputs": {"tokenIds": [B] * POINTS},
        "hooks": {"names": ["path", "gradient"]},
        "loss": {"kind": "logitDiff", "target": TARGET, "foil": FOIL},
    }
    outcome = on.gang.run({"hooks": hooks, "runs": [*ends, steps]})
    metric = [float(outcome.tensor(f"{name}/logits")[0] @ direction()) for name in ("a", "b")]
    start, stop = (outcome.captured(f"{name}/keep/{site}/0")[0] for name in ("a", "b"))
    gradients = outcome.tensor(f"steps/gradient/{site}/0", "gradients.safetensors")
    total = float((gradients.mean(0) * (stop - start)).sum())
    difference = metric[1] - metric[0]
    assert abs(difference) > 1e-2
    # Midpoints of a smooth path: the error falls with the square of the number of steps.
    assert total == pytest.approx(difference, rel=5e-3, abs=5e-3)


def direction() -> torch.Tensor:
    """Of the logits: target minus foil."""
    one = torch.zeros(128)
    one[TARGET], one[FOIL] = 1, -1
    return one
