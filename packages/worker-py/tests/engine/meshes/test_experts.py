"""Expert parallelism: tokens stay whole, experts are divided, and what only a part of the experts knows is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError
from support.checkpoints import make_checkpoint
from support.gang import Gang
from support.plain_gradients import plain_gradients
from support.plain_hooks import plain_logits, plain_model, plain_reads

ROWS = [[5, 9, 31, 4, 17], [7, 3, 100, 64, 8]]
RUN: dict[str, Any] = {"name": "r", "inputs": {"tokenIds": ROWS}, "return": {"logits": "all"}}
EXPERTS, GATE = "model.layers.0.mlp.experts", "model.layers.0.mlp.gate"
MIX = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs.flip(-1) * 0.5 + 0.3\n"


@pytest.fixture(scope="module")
def pair_of_experts() -> Iterator[Gang]:
    with Gang(2, experts=True) as started:
        yield started


@pytest.fixture(scope="module", params=["mixtral", "qwen3_moe"])
def model(request: pytest.FixtureRequest, pair_of_experts: Gang, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_checkpoint(tmp_path_factory.mktemp("experts") / request.param, request.param)
    description = pair_of_experts.load(path)
    assert description["mesh"] == {"pp": 1, "dp": 1, "tp": 2, "expertParallel": True}
    return path


def mix(value: Tensor) -> Tensor:
    return value.flip(-1) * 0.5 + 0.3


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=2e-5 * max(1.0, float(want.abs().max())), rtol=0)


def test_flattened_tokens_are_read_chosen_and_edited(pair_of_experts: Gang, model: Path) -> None:
    read = {"name": "read", "moduleName": EXPERTS}
    chosen = {"name": "chosen", "moduleName": EXPERTS, "where": {"rows": [1], "positions": [-1]}}
    edit = {"name": "e", "moduleName": EXPERTS, "edit": {"kind": "python", "source": MIX}, "save": "none"}
    outcome = pair_of_experts.run({"hooks": [read, chosen, edit], "runs": [RUN]})
    plain = plain_reads(model, ROWS, [EXPERTS], "forward")[EXPERTS]
    assert plain.shape == (10, 64)
    close(outcome.captured(f"r/read/{EXPERTS}/0"), plain)
    close(outcome.captured(f"r/chosen/{EXPERTS}/0").flatten(0, 1), plain[9:])
    labels = next(each for each in outcome.result["activations"] if each["hook"] == "read")["rows"]
    assert [(label["row"], label["position"]) for label in labels] == [(row, at) for row in (0, 1) for at in range(5)]
    want = plain_logits(model, ROWS, (EXPERTS, "forward", mix))
    assert (want - plain_logits(model, ROWS)).abs().max() > 1e-3
    close(outcome.tensor("r/logits"), want)


def test_gradients_and_weights_of_divided_experts(pair_of_experts: Gang, model: Path) -> None:
    names = [f"{EXPERTS}.gate_up_proj", f"{EXPERTS}.down_proj", f"{GATE}.weight"]
    hooks = [{"name": f"p{index}", "moduleName": name, "hookType": "tensor"} for index, name in enumerate(names)]
    hooks.append({"name": "g", "moduleName": EXPERTS, "hookType": "full_backward_pre"})
    run = {**RUN, "mode": "backward", "loss": {"kind": "logitDiff", "target": 11, "foil": 90}}
    outcome = pair_of_experts.run({"hooks": hooks, "runs": [run], "return": {"parameters": names}})
    want = plain_gradients(
        model,
        ROWS,
        lambda logits: (logits[:, -1, 11] - logits[:, -1, 90]).sum(),
        parameters=names,
        watched=[EXPERTS],
    )
    for index, name in enumerate(names):
        close(outcome.tensor(f"r/p{index}/{name}/0", "gradients.safetensors"), want.of_parameter[name])
        assert want.of_parameter[name].abs().max() > 1e-3
        assert torch.equal(outcome.tensor(name, "parameters.safetensors"), plain_model(model).get_parameter(name))
    close(outcome.tensor(f"r/g/{EXPERTS}/0", "gradients.safetensors"), want.of_output[EXPERTS])


@pytest.mark.parametrize("leaf", [1, 2])
def test_scores_and_indices_of_own_experts_only_are_refused(pair_of_experts: Gang, model: Path, leaf: int) -> None:
    """transformers masks the router's choice on every rank, so none of them has all of it."""
    hook = {"name": "h", "moduleName": GATE, "unpackIdx": leaf}
    with pytest.raises(PatchbayError, match="different values") as caught:
        pair_of_experts.prepare({"hooks": [hook], "runs": [RUN]})
    assert (caught.value.code, caught.value.path) == ("PB_NOT_SHARDABLE", "hooks[0].moduleName")
    logits = pair_of_experts.run({"hooks": [{**hook, "unpackIdx": 0}], "runs": [RUN]}).captured(f"r/h/{GATE}/0")
    close(logits, plain_reads(model, ROWS, [GATE], "forward")[GATE])


@pytest.mark.parametrize(
    ("family", "changes", "code", "says"),
    [
        ("llama", {}, "PB_NOT_SHARDABLE", "no expert parallel plan"),
        ("mixtral", {"num_local_experts": 3}, "PB_NOT_DIVISIBLE", "num_experts = 3"),
    ],
)
def test_models_whose_experts_cannot_be_divided(
    pair_of_experts: Gang, tmp_path: Path, family: str, changes: dict[str, Any], code: str, says: str
) -> None:
    with pytest.raises(PatchbayError, match=says) as caught:
        pair_of_experts.load(make_checkpoint(tmp_path / family, family, **changes))
    assert caught.value.code == code
