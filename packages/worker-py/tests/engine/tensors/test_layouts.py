"""Layouts that a shape alone cannot tell: equal sizes, packed projections, few heads, tied heads, partial sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError
from support.checkpoints import make_checkpoint
from support.gang import Gang
from support.plain_hooks import plain_logits, plain_reads

ROWS = [[5, 9, 31, 4, 17], [7, 3, 100, 64, 8]]
RUN: dict[str, Any] = {"name": "r", "inputs": {"tokenIds": ROWS}, "return": {"logits": "all"}}
SOURCE = "    return inputs.flip(-1) * 0.5 + inputs.cumsum(-1) * 0.02\n"
MIX = f"def edit(current_module, inputs, save_ctx, modules):\n{SOURCE}"


def mix(value: Tensor) -> Tensor:
    return value.flip(-1) * 0.5 + value.cumsum(-1) * 0.02


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=2e-5 * max(1.0, float(want.abs().max())), rtol=0)


def check(gang: Gang, path: Path, module: str, kind: str = "forward") -> None:
    """Read and edited as on the unsharded model; the edit depends on the order of the whole last dim."""
    hook = {"name": "e", "moduleName": module, "hookType": kind, "edit": {"kind": "python", "source": MIX}}
    outcome = gang.run({"hooks": [hook], "runs": [RUN]})
    close(outcome.captured(f"r/e/{module}/0"), plain_reads(path, ROWS, [module], kind)[module])
    want = plain_logits(path, ROWS, (module, kind, mix))
    assert (want - plain_logits(path, ROWS)).abs().max() > 1e-3
    close(outcome.tensor("r/logits"), want)


def test_axes_of_equal_size(bare_pair: Gang, tmp_path: Path) -> None:
    """Each rank's part of the mlp is as wide as the model, and a prompt may be as long as a part is wide."""
    path = make_checkpoint(tmp_path / "m", "llama", intermediate_size=128, hidden_size=64, num_hidden_layers=2)
    bare_pair.load(path)
    for module, kind in (("gate_proj", "forward"), ("down_proj", "forward_pre"), ("down_proj", "forward")):
        check(bare_pair, path, f"model.layers.0.mlp.{module}", kind)
    row = list(range(3, 67))
    module = "model.layers.0.mlp.up_proj"
    run = {"name": "r", "inputs": {"tokenIds": [row[:64]]}}
    outcome = bare_pair.run({"hooks": [{"name": "h", "moduleName": module}], "runs": [run]})
    got = outcome.captured(f"r/h/{module}/0")
    assert got.shape == (1, 64, 128)
    close(got, plain_reads(path, [row[:64]], [module], "forward")[module])


@pytest.mark.parametrize(
    ("family", "module"),
    [
        ("phi3", "model.layers.0.self_attn.qkv_proj"),
        ("phi3", "model.layers.0.mlp.gate_up_proj"),
        ("gpt_neox", "gpt_neox.layers.0.attention.query_key_value"),
    ],
)
def test_packed_projections_have_the_order_of_the_checkpoint(
    bare_pair: Gang, tmp_path: Path, family: str, module: str
) -> None:
    path = make_checkpoint(tmp_path / family, family)
    bare_pair.load(path)
    check(bare_pair, path, module)


def test_a_tied_head_is_whole(bare_pair: Gang, tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / "tied", "tied llama")
    bare_pair.load(path)
    for module in ("lm_head", "model.embed_tokens"):
        check(bare_pair, path, module)
    outcome = bare_pair.run({"runs": [RUN], "return": {"parameters": ["model.embed_tokens.weight"]}})
    assert outcome.tensor("model.embed_tokens.weight", "parameters.safetensors").shape == (128, 64)


@pytest.mark.parametrize("module", ["self_attn.o_proj", "mlp.down_proj", "self_attn", "mlp"])
def test_row_parallel_outputs_are_summed_once(pair: Gang, llama: Path, module: str) -> None:
    check(pair, llama, f"model.layers.1.{module}")


@pytest.mark.parametrize("module", ["k_proj", "v_proj", "q_proj"])
def test_grouped_heads_are_in_order(gang: Gang, llama: Path, module: str) -> None:
    check(gang, llama, f"model.layers.1.self_attn.{module}")


def test_fewer_heads_than_ranks_are_refused(tmp_path: Path) -> None:
    """transformers would have to give two ranks the same head; it fails inside of a view instead."""
    with Gang(4) as four, pytest.raises(PatchbayError, match="num_key_value_heads = 2") as caught:
        four.load(make_checkpoint(tmp_path / "few", "llama", num_key_value_heads=2))
    assert caught.value.code == "PB_NOT_DIVISIBLE"


def test_a_hint_that_fits_several_layouts_decides_none(bare_pair: Gang, tmp_path: Path) -> None:
    bare_pair.load(make_checkpoint(tmp_path / "mixtral", "mixtral"))
    hook = {"name": "h", "moduleName": "model.layers.0.mlp.experts.act_fn"}

    def refusal(expected: list[int | None] | None) -> PatchbayError:
        with pytest.raises(PatchbayError) as caught:
            bare_pair.prepare({"hooks": [{**hook, "expectedShape": expected}], "runs": [RUN]})
        return caught.value

    open_hint = refusal([None, None])
    assert (open_hint.code, open_hint.path) == ("PB_SHAPE_AMBIGUOUS", "hooks[0].expectedShape")
    for candidate in ("64] on every rank", "64] cut along dim 0", "128] cut along dim 1"):
        assert candidate in open_hint.message
    for single in ([None, 128], None):
        assert refusal(single).code == "PB_NOT_SHARDABLE"
