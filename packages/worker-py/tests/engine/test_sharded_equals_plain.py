"""An edit on any shard layout gives what plain hooks give on the unsharded model, sees the full tensor, runs once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from support.gang import Gang
from support.plain_hooks import plain_logits, plain_model

TOKENS = [[5, 9, 31, 4, 17], [7, 3, 100, 64, 8]]
ATOL = 2e-5  # fp32: only the order of the sums of an all-reduce differs
EFFECT = 1e-3

# Every output column depends on all columns, so that a wrong order of shards shows.
MIX = """
def edit(current_module, inputs, save_ctx, modules):
    save_ctx.count = save_ctx.get("count", 0) + 1
    save_ctx.shape = list(inputs.shape)
    return inputs.flip(-1) * 0.5 + inputs.cumsum(-1) * 0.02
"""


def mix(value: Tensor) -> Tensor:
    return value.flip(-1) * 0.5 + value.cumsum(-1) * 0.02


SITES = [
    ("model.layers.1.mlp.gate_proj", "forward", 128),
    ("model.layers.1.mlp.act_fn", "forward", 128),
    ("model.layers.2.mlp.down_proj", "forward_pre", 128),
    ("model.layers.2.mlp.down_proj", "forward", 64),
    ("model.layers.0.self_attn.q_proj", "forward", 64),
    ("model.layers.0.self_attn.k_proj", "forward", 32),
    ("model.layers.3.self_attn.o_proj", "forward_pre", 64),
    ("model.layers.1.self_attn", "forward", 64),
    ("model.layers.1.self_attn", "forward_pre", 64),
    ("model.layers.2", "forward", 64),
    ("model.layers.2", "forward_pre", 64),
    ("model.layers.1.input_layernorm", "forward", 64),
    ("model.embed_tokens", "forward", 64),
    ("model.norm", "forward", 64),
    ("lm_head", "forward", 128),
]


@pytest.mark.parametrize(("module", "kind", "width"), SITES)
def test_edit_equals_plain_hooks(gang: Gang, llama: Path, module: str, kind: str, width: int) -> None:
    hook = {"moduleName": module, "hookType": kind, "edit": {"kind": "python", "source": MIX}}
    checked = {**hook, "expectedShape": [2, 5, width]}
    run = {"name": "r", "inputs": {"tokenIds": TOKENS}, "return": {"logits": "all"}}
    outcome = gang.run({"hooks": [{**checked, "name": "h"}], "runs": [run]})

    want = plain_logits(llama, TOKENS, (module, kind, mix))
    assert (want - plain_logits(llama, TOKENS)).abs().max() > EFFECT
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=ATOL, rtol=0)
    assert outcome.result["saveCtx"] == {"count": 1, "shape": [2, 5, width]}
    report = outcome.report("h")
    assert (report["calls"], report["rowsTouched"]) == (1, 10)
    assert report["relativeChange"] > EFFECT


@pytest.mark.parametrize(("module", "kind", "width"), SITES)
def test_reads_give_the_full_tensor(gang: Gang, llama: Path, module: str, kind: str, width: int) -> None:
    hook = {"name": "h", "moduleName": module, "hookType": kind}
    outcome = gang.run({"hooks": [hook], "runs": [{"name": "r", "inputs": {"tokenIds": TOKENS}}]})

    seen: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        seen.append(value.clone())
        return value

    plain_logits(llama, TOKENS, (module, kind, keep))
    captured = outcome.captured(f"r/h/{module}/0")
    assert captured.shape == (2, 5, width)
    torch.testing.assert_close(captured, seen[0], atol=ATOL, rtol=0)
    assert outcome.report("h")["route"] == "read"


def test_bytes_gathered_are_those_of_the_other_ranks(gang: Gang) -> None:
    document = {
        "hooks": [
            {"name": "edited", "moduleName": "model.layers.1.mlp.up_proj", "edit": {"kind": "python", "source": MIX}},
            {"name": "read", "moduleName": "model.layers.2.mlp.up_proj"},
            {"name": "replicated", "moduleName": "model.layers.2", "edit": {"kind": "python", "source": MIX}},
        ],
        "runs": [{"name": "r", "inputs": {"tokenIds": TOKENS}}],
    }
    outcome = gang.run(document)
    full = 2 * 5 * 128 * 4
    others = full * (gang.tp - 1) // gang.tp
    assert [outcome.report(name)["gatheredBytes"] for name in ("edited", "read", "replicated")] == [others, others, 0]
    route = "root" if gang.tp == 1 else "broadcast"
    assert [outcome.report(name)["route"] for name in ("edited", "replicated")] == ["root", route]


def test_token_ids_can_be_edited(gang: Gang, llama: Path) -> None:
    source = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs.roll(1, dims=-1)\n"
    hook = {"moduleName": "model.embed_tokens", "hookType": "forward_pre", "edit": {"kind": "python", "source": source}}
    run = {"name": "r", "inputs": {"tokenIds": TOKENS}, "return": {"logits": "all"}}
    outcome = gang.run({"hooks": [hook], "runs": [run]})
    want = plain_logits(llama, torch.tensor(TOKENS).roll(1, dims=-1).tolist())
    assert (want - plain_logits(llama, TOKENS)).abs().max() > EFFECT
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=ATOL, rtol=0)


def test_hooks_on_one_module_chain_in_order(gang: Gang, llama: Path) -> None:
    module = "model.layers.1.mlp.up_proj"
    double = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs * 2 + 1\n"
    document = {
        "hooks": [
            {"name": "first", "moduleName": module, "edit": {"kind": "python", "source": MIX}, "save": "pre"},
            {"name": "second", "moduleName": module, "edit": {"kind": "python", "source": double}, "save": "pre"},
            {"name": "third", "moduleName": module, "save": "post"},
        ],
        "runs": [{"name": "r", "inputs": {"tokenIds": TOKENS}, "return": {"logits": "all"}}],
    }
    outcome = gang.run(document)

    def twice(value: Tensor) -> Tensor:
        return mix(value) * 2 + 1

    want = plain_logits(llama, TOKENS, (module, "forward", twice))
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=ATOL, rtol=0)
    first, second, third = (outcome.captured(f"r/{name}/{module}/0") for name in ("first", "second", "third"))
    torch.testing.assert_close(second, mix(first), atol=ATOL, rtol=0)
    torch.testing.assert_close(third, second * 2 + 1, atol=ATOL, rtol=0)


@pytest.mark.parametrize("save", ["pre", "post"])
def test_saved_value_is_before_or_after_the_edit(pair: Gang, save: str) -> None:
    # In place on purpose: the value before the edit must not change with it.
    source = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs.mul_(3)\n"
    edit = {"kind": "python", "source": source}
    for module in ("model.layers.1.mlp.up_proj", "model.layers.1"):
        document = {
            "hooks": [
                {"name": "plain", "moduleName": module},
                {"name": "h", "moduleName": module, "edit": edit, "save": save},
            ],
            "runs": [{"name": "r", "inputs": {"tokenIds": TOKENS}}],
        }
        outcome = pair.run(document)
        before = outcome.captured(f"r/plain/{module}/0")
        want = before if save == "pre" else before * 3
        torch.testing.assert_close(outcome.captured(f"r/h/{module}/0"), want)


def test_full_parameters_come_back(gang: Gang, llama: Path) -> None:
    names = ["model.layers.0.mlp.gate_proj.weight", "model.layers.1.self_attn.o_proj.weight", "model.norm.weight"]
    outcome = gang.run({"runs": [{"inputs": {"tokenIds": TOKENS}}], "return": {"parameters": names}})
    for name in names:
        want = plain_model(llama).get_parameter(name)
        assert torch.equal(outcome.tensor(name, "parameters.safetensors"), want)
