"""A training that goes on from a checkpoint ends bit for bit where the same training without a break ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from patchbay_worker.engine.config import Checkpoint
from patchbay_worker.errors import PatchbayError
from support.gang import Gang, Outcome

TOKENS = [[5, 9, 31, 4, 17], [7, 3, 100, 8, 50]]
# Dropout and numpy draw in every step, and the edit counts in save_ctx: what is not put back shows.
EDIT = """
def edit(current_module, inputs, save_ctx, modules):
    noise = float(np.random.rand()) * 1e-2
    seen = save_ctx.setdefault('seen', {'mean': torch.zeros(128, dtype=torch.float64), 'calls': 0})
    seen['calls'] += 1
    seen['mean'] = 0.5 * seen['mean'] + inputs.detach().double().mean((0, 1))
    save_ctx.setdefault('odd', [float('inf')]).append((np.float32(noise), inputs.detach()[0, :2].T))
    shift = (seen['mean'] / seen['calls']).to(inputs.dtype)
    return inputs + modules['a'](torch.nn.functional.dropout(inputs, 0.5)) + noise + shift
"""
MODULES = {
    "lowRank": {"kind": "lowRank", "inFeatures": 128, "outFeatures": 128, "rank": 4},
    "mlp": {"kind": "mlp", "inFeatures": 128, "hiddenFeatures": 8, "outFeatures": 128, "activation": "tanh"},
    "python": {
        "kind": "python",
        "source": "def build():\n    return torch.nn.Sequential(torch.nn.LayerNorm(128), torch.nn.Linear(128, 128))",
    },
}
OPTIMIZERS = {
    "lowRank": {"kind": "adamw", "lr": 0.01, "weightDecay": 0.1},
    "mlp": {"kind": "adam", "lr": 0.01},
    "python": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
}


def training(kind: str, steps: int, *, source: str = EDIT, save: str = "none", **more: Any) -> dict[str, Any]:
    hook = {"moduleName": "model.layers.1.mlp.gate_proj", "edit": {"kind": "python", "source": source}, "save": save}
    run: dict[str, Any] = {
        "name": "fit",
        "mode": "train",
        "inputs": {"tokenIds": TOKENS},
        "loss": {"kind": "nextToken"},
    }
    run |= {"steps": steps, "optimizer": OPTIMIZERS[kind], **more}
    return {"seed": 3, "modules": {"a": MODULES[kind]}, "hooks": [hook], "runs": [run]}


def checkpoints(outcome: Outcome) -> list[dict[str, Any]]:
    return [event for event in outcome.events if event["type"] == "artifact"]


@pytest.mark.parametrize("kind", list(MODULES))
def test_resumed_training_is_the_same_training(pair: Gang, tmp_path: Path, kind: str) -> None:
    whole = pair.run(training(kind, 9))
    broken = pair.run(training(kind, 6, checkpointEvery=3), folder=tmp_path)
    told = checkpoints(broken)
    assert [(event["step"], event["file"]) for event in told] == [
        (3, "checkpoints/fit/3.safetensors"),
        (6, "checkpoints/fit/6.safetensors"),
    ]
    for event in told:
        at = Checkpoint(event["sha256"], event["step"])
        resumed = pair.run(training(kind, 9, checkpointEvery=100), folder=tmp_path, resume={"fit": at})
        assert resumed.result["runs"]["fit"]["losses"] == whole.result["runs"]["fit"]["losses"]
        assert resumed.result["warnings"] == whole.result["warnings"]
        assert resumed.result["saveCtx"] == whole.result["saveCtx"]
        assert [event["step"] for event in checkpoints(resumed)] == [9], "the last step is always kept"
        progress = [event["done"] for event in resumed.events if event["type"] == "progress"]
        assert progress[0] == at.step + 1
        for file in ("modules.safetensors", "save_ctx.safetensors"):
            mine, want = (each.files[file] for each in (resumed, whole))
            assert mine.keys() == want.keys()
            for name, value in want.items():
                assert torch.equal(mine[name], value), name
    first, last = (whole.result["runs"]["fit"]["losses"][index] for index in (0, -1))
    assert abs(first - last) > 1e-3


def test_a_finished_run_is_not_trained_again(pair: Gang, tmp_path: Path) -> None:
    done = pair.run(training("mlp", 4, checkpointEvery=2), folder=tmp_path)
    last = checkpoints(done)[-1]
    again = pair.run(
        training("mlp", 4, checkpointEvery=2), folder=tmp_path, resume={"fit": Checkpoint(last["sha256"], 4)}
    )
    assert again.result["runs"] == done.result["runs"]
    assert checkpoints(again) == []
    for name, value in done.files["modules.safetensors"].items():
        assert torch.equal(again.files["modules.safetensors"][name], value)


@pytest.mark.parametrize(("damage", "code"), [("gone", "PB_ARTIFACT_NOT_FOUND"), ("step", "PB_ARTIFACT_CORRUPT")])
def test_a_checkpoint_that_cannot_be_used_ends_the_job_on_all_ranks(
    pair: Gang, tmp_path: Path, damage: str, code: str
) -> None:
    event = checkpoints(pair.run(training("mlp", 2, checkpointEvery=2), folder=tmp_path))[0]
    at = Checkpoint("0" * 64, 2) if damage == "gone" else Checkpoint(event["sha256"], 1)
    with pytest.raises(PatchbayError) as caught:
        pair.run(training("mlp", 4), folder=tmp_path, resume={"fit": at})
    assert caught.value.code == code
    assert pair.run(training("mlp", 1)).result["runs"]["fit"]["losses"], "the next job is fine"


def test_a_checkpoint_that_cannot_be_stored_is_a_warning(pair: Gang) -> None:
    outcome = pair.run(training("mlp", 2, checkpointEvery=1))
    assert len(outcome.result["warnings"]) == 2
    assert "the checkpoint at step 1 could not be stored" in outcome.result["warnings"][0]
    assert checkpoints(outcome) == []


def test_without_all_of_save_ctx_there_is_no_checkpoint(pair: Gang, tmp_path: Path) -> None:
    source = EDIT.replace("    return", "    save_ctx.f = print\n    return")
    outcome = pair.run(training("mlp", 4, source=source, checkpointEvery=2), folder=tmp_path)
    assert checkpoints(outcome) == []
    (told,) = [line for line in outcome.result["warnings"] if "no checkpoint" in line]
    assert "save_ctx.f is of type" in told


def test_what_was_captured_before_is_told_to_be_missing(pair: Gang, tmp_path: Path) -> None:
    event = checkpoints(pair.run(training("mlp", 2, checkpointEvery=2), folder=tmp_path))[0]
    at = Checkpoint(event["sha256"], 2)
    outcome = pair.run(training("mlp", 3, save="pre"), folder=tmp_path, resume={"fit": at})
    assert [entry["rows"][0]["step"] for entry in outcome.result["activations"]] == [2]
    assert "goes on after step 2" in outcome.result["warnings"][0]
