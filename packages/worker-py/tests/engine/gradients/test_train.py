"""`mode: train`: modules trained through a sharded frozen model equal the same training in one plain process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from patchbay_worker.errors import PatchbayError
from support.gang import Gang
from support.plain_gradients import plain_gradients
from support.plain_hooks import plain_model

TOKENS = [[5, 9, 31, 4, 17], [7, 3, 100, 8, 50]]
SITE = "model.layers.1.mlp.gate_proj"
ADAPTER = {"adapter": {"kind": "lowRank", "inFeatures": 128, "outFeatures": 128, "rank": 4}}
EDIT = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs + modules['adapter'](inputs)"
HOOK = {"name": "h", "moduleName": SITE, "edit": {"kind": "python", "source": EDIT}, "save": "none"}


def training(steps: int, optimizer: dict[str, Any], **more: Any) -> dict[str, Any]:
    run = {
        "name": "fit",
        "mode": "train",
        "inputs": {"tokenIds": TOKENS},
        "loss": {"kind": "nextToken"},
        "steps": steps,
        "optimizer": optimizer,
        **more,
    }
    return {"seed": 3, "modules": ADAPTER, "hooks": [HOOK], "runs": [run]}


def plain_training(path: Path, steps: int, make: Any) -> tuple[list[float], nn.Module, nn.Module]:
    """(losses, module as drawn, module as trained)"""
    model = plain_model(path)

    def draw() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(128, 4, bias=False), nn.Linear(4, 128, bias=False))

    module = draw()
    optimizer = make(module.parameters())
    handle = model.get_submodule(SITE).register_forward_hook(lambda _m, _a, output: output + module(output))
    losses = []
    try:
        for _ in range(steps):
            logits = model(torch.tensor(TOKENS), use_cache=False).logits
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(TOKENS)[:, 1:].flatten())
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
    finally:
        handle.remove()
    return losses, draw(), module


OPTIMIZERS: list[tuple[dict[str, Any], Any]] = [
    ({"kind": "sgd", "lr": 0.1, "momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    ({"kind": "adam", "lr": 0.01}, lambda p: torch.optim.Adam(p, lr=0.01)),
    ({"kind": "adamw", "lr": 0.01, "weightDecay": 0.1}, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
]


@pytest.mark.parametrize(("optimizer", "make"), OPTIMIZERS, ids=lambda value: str(value))
def test_training_equals_plain_training(gang: Gang, llama: Path, optimizer: dict[str, Any], make: Any) -> None:
    before = gang.state()
    outcome = gang.run(training(8, optimizer))
    losses, drawn, trained = plain_training(llama, 8, make)
    got = outcome.result["runs"]["fit"]["losses"]
    assert got == pytest.approx(losses, abs=1e-4)
    assert losses[-1] < losses[0] - 1e-2, "it learns"
    for name, want in trained.state_dict().items():
        value = outcome.tensor(f"adapter.{name}", "modules.safetensors")
        assert (want - drawn.state_dict()[name]).abs().max() > 1e-3
        # Adam divides by the size of a gradient, which makes small differences of sums larger.
        torch.testing.assert_close(value, want, atol=2e-3, rtol=0)
    assert gang.state() == before, "the model itself is frozen"


def test_the_loss_curve_comes_as_events(pair: Gang) -> None:
    outcome = pair.run(training(5, {"kind": "sgd", "lr": 0.1}))
    told = [event for event in outcome.events if event["type"] == "progress"]
    assert told[0]["done"] == 1
    assert (told[-1]["done"], told[-1]["total"]) == (5, 5)
    assert told[-1]["loss"] == outcome.result["runs"]["fit"]["losses"][-1]


def test_a_later_run_uses_what_was_trained(pair: Gang) -> None:
    document = training(5, {"kind": "sgd", "lr": 0.5})
    loss = {"mode": "backward", "inputs": {"tokenIds": TOKENS}, "loss": {"kind": "nextToken"}}
    document["runs"] = [{"name": "before", **loss}, *document["runs"], {"name": "after", **loss}]
    runs = pair.run(document).result["runs"]
    assert runs["before"]["loss"] == pytest.approx(runs["fit"]["losses"][0], abs=1e-6)
    assert runs["after"]["loss"] < runs["fit"]["losses"][-1]


def test_steps_are_labels_and_can_be_chosen(pair: Gang) -> None:
    document = training(4, {"kind": "sgd", "lr": 0.1})
    document["hooks"].append(
        {"name": "watch", "moduleName": "model.norm", "where": {"steps": [0, 3], "positions": [-1]}}
    )
    outcome = pair.run(document)
    seen = [entry["rows"][0]["step"] for entry in outcome.result["activations"]]
    assert seen == [0, 3]
    first, last = (outcome.captured(entry["tensor"]) for entry in outcome.result["activations"])
    assert (first - last).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"modules": {}}, "PB_NOTHING_TO_TRAIN", "runs[0].mode"),
        ({"modules": {"adapter": {**ADAPTER["adapter"], "trainable": False}}}, "PB_NOTHING_TO_TRAIN", "runs[0].mode"),
        ({"hooks": []}, "PB_NOTHING_TO_TRAIN", None),
    ],
)
def test_nothing_to_train(pair: Gang, change: dict[str, Any], code: str, path: str | None) -> None:
    with pytest.raises(PatchbayError) as caught:
        pair.run({**training(3, {"kind": "sgd", "lr": 0.1}), **change})
    assert (caught.value.code, caught.value.path) == (code, path)


def test_momentum_belongs_to_sgd(pair: Gang) -> None:
    with pytest.raises(PatchbayError) as caught:
        pair.run(training(3, {"kind": "adam", "lr": 0.1, "momentum": 0.9}))
    assert (caught.value.code, caught.value.path) == ("PB_DOCUMENT_INVALID", "runs[0].optimizer.momentum")


def test_an_edit_that_fails_at_a_later_step_ends_the_job(gang: Gang) -> None:
    source = EDIT.replace("    return", "    assert current_module.step < 2, 'third step'\n    return")
    document = training(5, {"kind": "sgd", "lr": 0.1})
    document["hooks"] = [{**HOOK, "edit": {"kind": "python", "source": source}}]
    with pytest.raises(PatchbayError, match="third step") as caught:
        gang.run(document)
    assert caught.value.code == "PB_EDIT_FAILED"
    assert gang.run(training(1, {"kind": "sgd", "lr": 0.1})).result["runs"]["fit"]["losses"]


def test_gradients_before_the_first_trained_module_are_seen(gang: Gang, llama: Path) -> None:
    """The modules need none there; a hook that watches does."""
    watched = "model.layers.0.mlp"
    hook = {"name": "g", "moduleName": watched, "hookType": "full_backward_pre"}
    document = training(2, {"kind": "sgd", "lr": 0.05})
    outcome = gang.run({**document, "hooks": [HOOK, hook]})
    found = [entry for entry in outcome.result["activations"] if entry["hook"] == "g"]
    assert [entry["rows"][0]["step"] for entry in found] == [0, 1]
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(128, 4, bias=False), nn.Linear(4, 128, bias=False))

    def loss(logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(TOKENS)[:, 1:].flatten())

    edits = [(SITE, "forward", lambda x: x + module(x))]
    want = plain_gradients(llama, TOKENS, loss, watched=[watched], edits=edits).of_output[watched]
    assert want.abs().max() > 1e-3
    torch.testing.assert_close(outcome.tensor(found[0]["tensor"], "gradients.safetensors"), want, atol=2e-5, rtol=0)
    plain = gang.run(document).result["runs"]["fit"]["losses"]
    assert outcome.result["runs"]["fit"]["losses"] == plain, "watching changes nothing"
