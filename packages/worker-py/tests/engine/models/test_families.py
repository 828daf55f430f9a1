"""Other architectures under tp 2: every served site reads as on the unsharded model, the rest is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from families.draw import Drawn
from families.plain_job import PlainRun
from patchbay_worker.errors import PatchbayError
from support.checkpoints import make_checkpoint
from support.gang import Gang
from support.plain_hooks import plain_logits, plain_model

TOKENS = [[5, 9, 31, 4, 17], [7, 3, 100, 64, 8]]
FAMILIES = ["mistral", "mixtral", "qwen3", "phi3", "gpt_neox"]
EDITED = {
    "mistral": "model.layers.0.mlp.act_fn",
    "mixtral": "model.layers.0.mlp.experts",
    "qwen3": "model.layers.0.self_attn.q_norm",
    "phi3": "model.layers.0.mlp.gate_up_proj",
    "gpt_neox": "gpt_neox.layers.0.attention.query_key_value",
}


def served(description: dict[str, Any], kind: str) -> list[str]:
    """Modules whose first leaf can be read."""
    return [
        site["module"]
        for site in description["sites"]
        if site["hookType"] == kind and site["leaf"] == 0 and site["layout"] in ("replicated", "sharded")
    ]


def everything(path: Path, kind: str) -> dict[str, Tensor]:
    """First leaf of every module's first call, from one forward of the unsharded model."""
    seen: dict[str, Tensor] = {}

    def keeper(name: str) -> Any:
        def keep(value: Tensor) -> Tensor:
            seen.setdefault(name, value.clone())
            return value

        return keep

    names = [name for name, _ in plain_model(path).named_modules() if name]
    called = [name for name in names if not isinstance(plain_model(path).get_submodule(name), torch.nn.ModuleList)]
    for name in called:
        try:
            plain_logits(path, TOKENS, (name, kind, keeper(name)))
        except IndexError:
            continue  # no tensor among its arguments
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_every_site_reads_as_unsharded(bare_pair: Gang, tmp_path: Path, family: str) -> None:
    path = make_checkpoint(tmp_path / family, family)
    description = bare_pair.load(path)
    sharded = 0
    for kind in ("forward", "forward_pre"):
        names = served(description, kind)
        hooks = [{"name": name, "moduleName": name, "hookType": kind} for name in names]
        outcome = bare_pair.run({"hooks": hooks, "runs": [{"name": "r", "inputs": {"tokenIds": TOKENS}}]})
        plain = everything(path, kind)
        for name in names:
            captured = outcome.captured(f"r/{name}/{name}/0")
            assert captured.ndim == plain[name].ndim
            # The engine gives every row its position ids; left alone, a model makes one row for all.
            want = plain[name].expand_as(captured)
            torch.testing.assert_close(captured, want, atol=2e-5, rtol=1e-5)
        sharded += sum(site["layout"] == "sharded" for site in description["sites"] if site["hookType"] == kind)
    assert (sharded > 0) == (family != "phi3")  # phi3's plan gathers every output again


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_equals_plain_hooks(bare_pair: Gang, tmp_path: Path, family: str) -> None:
    path = make_checkpoint(tmp_path / family, family)
    bare_pair.load(path)
    source = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs.flip(-1) * 0.5 + 0.3\n"
    hook = {"name": "h", "moduleName": EDITED[family], "edit": {"kind": "python", "source": source}}
    run = {"name": "r", "inputs": {"tokenIds": TOKENS}, "return": {"logits": "all"}}
    outcome = bare_pair.run({"hooks": [hook], "runs": [run]})
    want = plain_logits(path, TOKENS, (EDITED[family], "forward", lambda value: value.flip(-1) * 0.5 + 0.3))
    assert (want - plain_logits(path, TOKENS)).abs().max() > 1e-3
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=2e-5, rtol=0)


def test_what_no_plan_accounts_for_is_refused(bare_pair: Gang, tmp_path: Path) -> None:
    """The experts' inner activation is cut in a way that no Linear explains; guessing would give wrong values."""
    bare_pair.load(make_checkpoint(tmp_path / "mixtral", "mixtral"))
    with pytest.raises(PatchbayError) as caught:
        bare_pair.prepare(
            {
                "hooks": [{"name": "h", "moduleName": "model.layers.0.mlp.experts.act_fn"}],
                "runs": [{"inputs": {"tokenIds": TOKENS}}],
            }
        )
    assert caught.value.code == "PB_NOT_SHARDABLE"
    assert caught.value.path == "hooks[0].moduleName"


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_gradients_of_the_weights_of_experts(bare_pair: Gang, tmp_path: Path, family: str) -> None:
    """The router gives several tensors, and experts take several: hidden states, which experts, how much of each."""
    path = make_checkpoint(tmp_path / family, family)
    sites = {(site["module"], site["hookType"], site["leaf"]): site for site in bare_pair.load(path)["sites"]}
    router, experts = "model.layers.1.mlp.gate", "model.layers.1.mlp.experts"
    assert sites[experts, "forward_pre", 2]["dtype"] == sites[router, "forward", 1]["dtype"] == "float32"
    edit = {
        "kind": "python",
        "source": "def edit(current_module, inputs, save_ctx, modules):\n    return inputs.flip(-1) * 3",
    }
    hooks: list[dict[str, Any]] = [
        {"name": "states", "moduleName": experts, "hookType": "full_backward"},
        {"name": "weights", "moduleName": experts, "hookType": "full_backward", "unpackIdx": 2, "edit": edit},
        {"name": "router", "moduleName": router, "hookType": "full_backward_pre", "unpackIdx": 1},
        {"name": "before", "moduleName": "model.layers.0", "hookType": "full_backward_pre"},
    ]
    loss = {"kind": "logitDiff", "target": 11, "foil": 90}
    run = {"name": "r", "mode": "backward", "inputs": {"tokenIds": TOKENS}, "loss": loss}
    outcome = bare_pair.run({"hooks": hooks, "runs": [run]})
    job = Drawn({"hooks": hooks, "runs": [run]}, {})
    want, plain = (PlainRun(plain_model(path), job, edited=edited).run().seen for edited in (True, False))
    for hook in hooks:
        name = hook["name"]
        got = outcome.tensor(f"r/{name}/{hook['moduleName']}/0", "gradients.safetensors")
        torch.testing.assert_close(got, want[name][0], atol=2e-5 * max(1.0, float(want[name][0].abs().max())), rtol=0)
        assert got.abs().max() > 1e-3
    assert (want["router"][0] - want["weights"][0].flip(-1) * 3).abs().max() < 1e-6, "the router sees what was edited"
    assert (want["before"][0] - plain["before"][0]).abs().max() > 1e-3
