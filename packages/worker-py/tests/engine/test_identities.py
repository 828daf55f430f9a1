"""I1-I24: exact relations that hold for any model, so they need neither weights nor a reference that could be wrong
in the same way. Tolerances: bitwise where the kernels and shapes are the same; 2e-5 in float32 where a sum is taken in
another order or over another number of rows. Not here: I19 and I21 (no SAE, no accumulator in the product yet), I20
(no early stop), I24 (its own mesh: meshes/test_meshes.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.checkpoints import make_checkpoint
from support.gang import Gang, Outcome
from support.plain_hooks import plain_logits, plain_model, plain_reads

A, B = [[5, 9, 31, 4, 17]], [[7, 3, 100, 8, 50]]
LAYERS = 4
SUMS: dict[str, Any] = {"atol": 2e-5, "rtol": 0}
EFFECT = 1e-3


@pytest.fixture(scope="module")
def gang(llama: Path) -> Iterator[Gang]:
    with Gang(2) as started:
        started.load(llama)
        yield started


def hook(module: str, body: str, **more: Any) -> dict[str, Any]:
    source = f"def edit(current_module, inputs, save_ctx, modules):\n    {body.replace(chr(10), chr(10) + '    ')}\n"
    return {"moduleName": module, "edit": {"kind": "python", "source": source}, "save": "none", **more}


def job(tokens: list[list[int]], *hooks: dict[str, Any], **run: Any) -> dict[str, Any]:
    given = {"name": "r", "inputs": {"tokenIds": tokens}, "return": {"logits": "all"}, **run}
    return {"hooks": list(hooks), "runs": [given]}


def logits(gang: Gang, tokens: list[list[int]], *hooks: dict[str, Any]) -> Tensor:
    return gang.run(job(tokens, *hooks)).tensor("r/logits")


def reads(gang: Gang, tokens: list[list[int]], *hooks: dict[str, Any]) -> dict[str, Tensor]:
    """By module and kind, what each hook saw."""
    return dict(gang.run(job(tokens, *hooks)).files["activations.safetensors"])


def moved(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > EFFECT)


def test_i1_reading_every_module_changes_nothing(gang: Gang) -> None:
    outcome = gang.run(job(A, {"name": "all", "moduleName": "**"}))
    assert torch.equal(outcome.tensor("r/logits"), logits(gang, A))
    assert len(outcome.files["activations.safetensors"]) > 40


@pytest.mark.parametrize("body", ["return inputs.clone()", "return inputs * 1", "return inputs + 0"])
def test_i2_edits_that_change_nothing_change_nothing(gang: Gang, body: str) -> None:
    assert torch.equal(logits(gang, A, hook("model.layers.*", body)), logits(gang, A))


def test_i3_two_edits_in_order_are_one(gang: Gang) -> None:
    site, twice, more = "model.layers.1.mlp.gate_proj", "return inputs * 2", "return inputs + 0.25"
    both = logits(gang, A, hook(site, twice), hook(site, more))
    assert torch.equal(both, logits(gang, A, hook(site, "return inputs * 2 + 0.25")))
    assert moved(both, logits(gang, A, hook(site, more), hook(site, twice)))


def test_i4_the_residual_is_the_sum_of_what_was_added(gang: Gang) -> None:
    seen = reads(
        gang,
        A,
        {"name": "e", "moduleName": "model.embed_tokens"},
        {"name": "a", "moduleName": "model.layers.*.self_attn"},
        {"name": "m", "moduleName": "model.layers.*.mlp"},
        {"name": "last", "moduleName": "model.norm", "hookType": "forward_pre"},
    )
    last = seen.pop("r/last/model.norm/0")
    assert len(seen) == 1 + 2 * LAYERS
    torch.testing.assert_close(torch.stack(list(seen.values())).sum(0), last, **SUMS)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_i5_the_whole_residual_of_another_prompt_is_that_prompt(gang: Gang, layer: int) -> None:
    keep = hook(f"model.layers.{layer}", "save_ctx.x = inputs.clone()\nreturn inputs", name="k", groups=["k"])
    put = hook(f"model.layers.{layer}", "return save_ctx.x", name="p", groups=["p"])
    whole = {"return": {"logits": "all"}}
    runs = [
        {"name": "b", "inputs": {"tokenIds": B}, "hooks": {"groups": ["k"]}, **whole},
        {"name": "a", "inputs": {"tokenIds": A}, "hooks": {"groups": ["p"]}, **whole},
    ]
    outcome = gang.run({"hooks": [keep, put], "runs": runs})
    assert torch.equal(outcome.tensor("a/logits"), outcome.tensor("b/logits"))
    assert moved(outcome.tensor("a/logits"), logits(gang, A))


def test_i6_an_edit_reaches_no_earlier_position(gang: Gang) -> None:
    plain = logits(gang, A)
    edited = logits(gang, A, hook("model.layers.0", "return inputs * 3", where={"positions": [3]}))
    assert torch.equal(edited[:, :3], plain[:, :3])
    assert moved(edited[:, 3:], plain[:, 3:])


def test_i7_a_block_whose_output_is_its_input_is_no_block(gang: Gang, llama: Path) -> None:
    keep = hook("model.layers.2", "save_ctx.x = inputs.clone()\nreturn inputs", hookType="forward_pre")
    skipped = logits(gang, A, keep, hook("model.layers.2", "return save_ctx.x"))
    layers = plain_model(llama).model.layers
    cut = layers.pop(2)
    try:
        without = plain_logits(llama, A)
    finally:
        layers.insert(2, cut)
    torch.testing.assert_close(skipped, without, **SUMS)
    assert moved(skipped, logits(gang, A))


def test_i8_hidden_states_are_what_blocks_get(gang: Gang, llama: Path) -> None:
    seen = reads(
        gang,
        A,
        {"name": "pre", "moduleName": "model.layers.*", "hookType": "forward_pre"},
        {"name": "end", "moduleName": "model.norm"},
    )
    with torch.no_grad():
        states = plain_model(llama)(torch.tensor(A), output_hidden_states=True, use_cache=False).hidden_states
    for layer in range(LAYERS):
        torch.testing.assert_close(seen[f"r/pre/model.layers.{layer}/0"], states[layer], **SUMS)
    torch.testing.assert_close(seen["r/end/model.norm/0"], states[-1], **SUMS)


def test_i9_heads_times_their_weights_are_the_attention_output(gang: Gang, llama: Path) -> None:
    site = "model.layers.1.self_attn"
    seen = reads(
        gang,
        A,
        {"name": "z", "moduleName": f"{site}.o_proj", "hookType": "forward_pre"},
        {"name": "o", "moduleName": site},
    )
    weight = plain_model(llama).get_parameter(f"{site}.o_proj.weight")
    heads, parts = seen[f"r/z/{site}.o_proj/0"].chunk(8, -1), weight.chunk(8, 1)
    summed = torch.stack([z @ w.T for z, w in zip(heads, parts, strict=True)]).sum(0)
    torch.testing.assert_close(summed, seen[f"r/o/{site}/0"], **SUMS)


def test_i11_projecting_out_leaves_nothing_and_is_idempotent(gang: Gang) -> None:
    body = "u = torch.nn.functional.normalize(torch.arange(1.0, 65.0), dim=0)\n"
    body += "return inputs - (inputs @ u).unsqueeze(-1) * u"
    site = "model.layers.1"
    once, twice = hook(site, body, name="one", save="post"), hook(site, body, name="two", save="post")
    seen = reads(gang, A, once, twice)
    first, second = seen[f"r/one/{site}/0"], seen[f"r/two/{site}/0"]
    direction = torch.nn.functional.normalize(torch.arange(1.0, 65.0), dim=0)
    assert (first @ direction).abs().max() < 2e-5
    torch.testing.assert_close(first, second, **SUMS)
    assert moved(logits(gang, A, once), logits(gang, A))


def test_i12_rows_are_independent(gang: Gang) -> None:
    site, body = "model.layers.1.mlp.up_proj", "return inputs * 2"
    both = [*A, *B]
    plain = logits(gang, both)
    torch.testing.assert_close(logits(gang, [*B, *A]), plain.flip(0), **SUMS)
    edited = logits(gang, both, hook(site, body, where={"rows": [1]}))
    torch.testing.assert_close(edited[:1], plain[:1], **SUMS)
    torch.testing.assert_close(edited[1:], logits(gang, B, hook(site, body)), **SUMS)
    assert moved(edited[1:], plain[1:])


def test_i13_the_lens_of_the_last_layer_is_the_output(gang: Gang, llama: Path) -> None:
    outcome = gang.run(job(A, {"name": "x", "moduleName": "model.norm", "hookType": "forward_pre"}))
    model = plain_model(llama)
    with torch.no_grad():
        lens = model.lm_head(model.model.norm(outcome.captured("r/x/model.norm/0")))
    torch.testing.assert_close(lens, outcome.tensor("r/logits"), **SUMS)


def test_i14_a_gradient_is_a_difference_quotient(gang: Gang) -> None:
    site, step = "model.layers.1.mlp.gate_proj", 1e-2
    loss = {"mode": "backward", "loss": {"kind": "logitDiff", "target": 40, "foil": 41}}
    watch = {"name": "g", "moduleName": site, "hookType": "full_backward_pre"}
    gradient = gang.run(job(A, watch, **loss)).files["gradients.safetensors"][f"r/g/{site}/0"]
    torch.manual_seed(0)
    direction = torch.randn(128)

    def metric(scale: float) -> float:
        body = f"torch.manual_seed(0)\nreturn inputs + {scale} * torch.randn(128)"
        last = logits(gang, A, hook(site, body))[0, -1].double()
        return float(last[40] - last[41])

    quotient = (metric(step) - metric(-step)) / (2 * step)
    slope = float((gradient * direction).sum())
    assert abs(slope) > EFFECT
    assert slope == pytest.approx(quotient, rel=2e-2, abs=5e-3)  # float32: rounding over a step of 1e-2


def test_i16_the_cache_changes_no_token_and_rows_are_captured_once(gang: Gang, llama: Path) -> None:
    run = {"mode": "generate", "maxNewTokens": 6, "return": {"logits": "none"}}
    outcome = gang.run(job(A, {"name": "x", "moduleName": "model.layers.1"}, **run))
    (tokens,) = outcome.result["runs"]["r"]["generatedTokenIds"]
    expected = list(A[0])
    for _ in tokens:
        expected.append(int(plain_logits(llama, [expected])[0, -1].argmax()))
    assert tokens == expected[len(A[0]) :]
    labels = [row for entry in outcome.result["activations"] for row in entry["rows"]]
    assert [row["position"] for row in labels] == list(range(len(A[0]) + len(tokens) - 1))
    assert [row["tokenId"] for row in labels] == expected[: len(labels)]


STEER = "return inputs + 0.4 * torch.linspace(-1, 1, 64)"


def _steered(outcome: Outcome) -> list[int]:
    (tokens,) = outcome.result["runs"]["r"]["generatedTokenIds"]
    return list(tokens)


def test_i17_steered_generation_is_teacher_forced_argmax_under_the_same_edit(gang: Gang) -> None:
    start = len(A[0]) - 1
    steer = hook("model.layers.1", STEER, where={"positions": {"from": start}})
    run = {"mode": "generate", "maxNewTokens": 6, "return": {"logits": "none"}}
    tokens = _steered(gang.run(job(A, steer, **run)))
    forced = logits(
        gang,
        [[*A[0], *tokens[:-1]]],
        hook("model.layers.1", STEER, where={"positions": list(range(start, start + len(tokens)))}),
    )
    assert forced[0, start:].argmax(-1).tolist() == tokens
    assert tokens != _steered(gang.run(job(A, **run))), "the steering bites"


def test_i18_padding_changes_nothing(gang: Gang, llama: Path) -> None:
    short, long = [5, 9, 31], [7, 3, 100, 8, 50, 12]
    alone = logits(gang, [short])
    batch = logits(gang, [short, long])
    torch.testing.assert_close(batch[:1, :3], alone, **SUMS)
    torch.testing.assert_close(batch[1:], logits(gang, [long]), **SUMS)
    model, pad = plain_model(llama), 3
    with torch.no_grad():  # what the others do: pads on the left, with a mask and positions
        left = model(
            torch.tensor([[1] * pad + short, long]),
            attention_mask=torch.tensor([[0] * pad + [1] * 3, [1] * 6]),
            position_ids=torch.tensor([[0] * pad + [0, 1, 2], list(range(6))]),
            use_cache=False,
        ).logits
    torch.testing.assert_close(batch[:1, :3], left[:1, pad:], **SUMS)
    torch.testing.assert_close(batch[1:], left[1:], **SUMS)


def test_i22_every_site_is_that_of_the_whole_model(gang: Gang, llama: Path) -> None:
    seen = reads(gang, A, {"name": "all", "moduleName": "**", "save": "pre"})
    names = [name for name, _ in plain_model(llama).named_modules() if name]
    want = plain_reads(llama, A, names, "forward")
    compared = 0
    for key, value in seen.items():
        module = key.split("/")[2]
        if module in want:
            torch.testing.assert_close(value, want[module], **SUMS)
            compared += 1
    assert compared > 40


def test_i23_zeroing_a_neuron_of_the_other_shard_is_zeroing_it(gang: Gang, llama: Path) -> None:
    site = "model.layers.1.mlp.act_fn"

    def zero(value: Tensor) -> Tensor:
        value[..., 100] = 0  # rank 1 has 64..127
        return value

    edited = logits(gang, A, hook(site, "inputs[..., 100] = 0\nreturn inputs"))
    torch.testing.assert_close(edited, plain_logits(llama, A, (site, "forward", zero)), **SUMS)
    assert moved(edited, logits(gang, A))


def test_i10_experts_are_weighted_by_their_router(tmp_path: Path, bare_single: Gang) -> None:
    folder = make_checkpoint(tmp_path / "moe", "mixtral")
    bare_single.load(folder)
    site = "model.layers.0.mlp"
    seen = reads(
        bare_single,
        A,
        {"name": "in", "moduleName": site, "hookType": "forward_pre"},
        {"name": "w", "moduleName": f"{site}.gate", "unpackIdx": 1},
        {"name": "i", "moduleName": f"{site}.gate", "unpackIdx": 2},
        {"name": "out", "moduleName": site},
    )
    x, weights = seen[f"r/in/{site}/0"].flatten(0, 1), seen[f"r/w/{site}.gate/0"]
    indices, out = seen[f"r/i/{site}.gate/0"], seen[f"r/out/{site}/0"].flatten(0, 1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)), **SUMS)
    experts = plain_model(folder).get_submodule(f"{site}.experts")
    total = torch.zeros_like(out)
    for row in range(len(x)):
        for weight, index in zip(weights[row], indices[row].tolist(), strict=True):
            gate, up = (experts.gate_up_proj[index] @ x[row]).chunk(2)
            total[row] += weight * (experts.down_proj[index] @ (experts.act_fn(gate) * up))
    torch.testing.assert_close(total.detach(), out, **SUMS)
