"""What an edit may do to its tensor, and what it may not: in place, aliases, NaN, integers, chains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError
from support.gang import Gang
from support.plain_hooks import plain_logits, plain_reads

ROWS = [[5, 9, 31, 4, 17], [7, 3, 100, 8, 50]]
RUN: dict[str, Any] = {"name": "r", "inputs": {"tokenIds": ROWS}, "return": {"logits": "all"}}
WHOLE, CUT = "model.layers.1", "model.layers.1.mlp.gate_proj"


def hook(module: str, body: str, **more: Any) -> dict[str, Any]:
    source = f"def edit(current_module, inputs, save_ctx, modules):\n{body}"
    return {"name": "h", "moduleName": module, "edit": {"kind": "python", "source": source}, **more}


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=2e-5 * max(1.0, float(want.abs().max())), rtol=0)


def effect(llama: Path, want: Tensor) -> Tensor:
    assert (want - plain_logits(llama, ROWS)).abs().max() > 1e-3
    return want


@pytest.mark.parametrize("module", [WHOLE, CUT])
@pytest.mark.parametrize("save", ["pre", "post"])
def test_an_edit_in_place_is_an_edit(gang: Gang, llama: Path, module: str, save: str) -> None:
    """And the value saved before it is the one before it, which FlexModel overwrites."""
    outcome = gang.run({"hooks": [hook(module, "    inputs.mul_(3)\n    return inputs", save=save)], "runs": [RUN]})
    want = effect(llama, plain_logits(llama, ROWS, (module, "forward", lambda value: value * 3)))
    close(outcome.tensor("r/logits"), want)
    saved = plain_reads(llama, ROWS, [module], "forward")[module] * (3 if save == "post" else 1)
    close(outcome.captured(f"r/h/{module}/0"), saved)


ALIASES = [
    ("    save_ctx.x = inputs\n    return save_ctx.x", 1.0),
    ("    save_ctx.x = inputs * 2\n    return save_ctx.x", 2.0),
    ("    return (inputs * 2)[:]", 2.0),
    ("    return torch.stack([inputs * 2, inputs])[0]", 2.0),
    ("    return inputs.transpose(0, 1).contiguous().transpose(0, 1) * 2", 2.0),
    ("    return (inputs * 2)[:1, :1, :1].expand_as(inputs) * 0 + inputs * 2", 2.0),
]


@pytest.mark.parametrize(("body", "factor"), ALIASES)
def test_aliases_of_the_input_or_of_saved_values_are_copied(pair: Gang, llama: Path, body: str, factor: float) -> None:
    """A second hook writes into its own tensor, which may be the same memory in the edits' process."""
    second = {**hook(CUT, "    inputs.add_(1)\n    return inputs"), "name": "second", "save": "none"}
    outcome = pair.run({"hooks": [hook(CUT, body, save="post"), second], "runs": [RUN]})
    want = plain_logits(llama, ROWS, (CUT, "forward", lambda value: value * factor + 1))
    close(outcome.tensor("r/logits"), effect(llama, want))
    saved = plain_reads(llama, ROWS, [CUT], "forward")[CUT] * factor
    close(outcome.captured(f"r/h/{CUT}/0"), saved)
    if "save_ctx" in body:
        close(outcome.tensor("x", "save_ctx.safetensors"), saved)


@pytest.mark.parametrize("module", [WHOLE, CUT])
def test_hooks_on_one_module_chain_in_their_order(gang: Gang, llama: Path, module: str) -> None:
    twice = {**hook(module, "    return inputs * 2"), "name": "twice"}
    plus = {**hook(module, "    return inputs + 0.5"), "name": "plus"}
    last = {"name": "last", "moduleName": module}
    want = {}
    orders: dict[str, Callable[[Tensor], Tensor]] = {
        "twice plus": lambda value: value * 2 + 0.5,
        "plus twice": lambda value: (value + 0.5) * 2,
    }
    for order, edit in orders.items():
        hooks = [twice, plus, last] if order.startswith("twice") else [plus, twice, last]
        outcome = gang.run({"hooks": hooks, "runs": [RUN]})
        want[order] = plain_logits(llama, ROWS, (module, "forward", edit))
        close(outcome.tensor("r/logits"), want[order])
        plain = plain_reads(llama, ROWS, [module], "forward")[module]
        close(outcome.captured(f"r/last/{module}/0"), edit(plain))
    assert (want["twice plus"] - want["plus twice"]).abs().max() > 1e-3


def test_token_ids_are_edited_as_integers(gang: Gang, llama: Path) -> None:
    body = "    assert not inputs.is_floating_point()\n    return (inputs + 1) % 128"
    outcome = gang.run({"hooks": [hook("model.embed_tokens", body, hookType="forward_pre")], "runs": [RUN]})
    want = plain_logits(llama, [[(token + 1) % 128 for token in row] for row in ROWS])
    close(outcome.tensor("r/logits"), effect(llama, want))
    assert outcome.captured("r/h/model.embed_tokens/0").tolist() == ROWS


@pytest.mark.parametrize("module", [WHOLE, CUT])
def test_values_that_are_not_finite_are_counted_and_told(gang: Gang, llama: Path, module: str) -> None:
    """The run goes on with them as plain torch does; the result says which hook made them."""
    body = "    inputs = inputs.clone()\n    inputs[0, 1, :3] = float('nan')\n    inputs[1, 2, 0] = float('inf')\n"
    first = hook(module, body + "    return inputs", save="none")
    second = {**hook(module, "    return inputs * 1.0", save="none"), "name": "after"}
    outcome = gang.run({"hooks": [first, second], "runs": [RUN]})

    def edit(value: Tensor) -> Tensor:
        value[0, 1, :3] = float("nan")
        value[1, 2, 0] = float("inf")
        return value

    want = plain_logits(llama, ROWS, (module, "forward", edit))
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=2e-5, rtol=0, equal_nan=True)
    assert outcome.report("h")["notFinite"] == 4
    assert outcome.report("after")["notFinite"] == 0, "it only passed on what was there"
    assert outcome.result["warnings"] == [f"h at {module} in run r: the edit made 4 values NaN or infinite"]


FAULTS = [
    ("    return 3", "PB_EDIT"),
    ("    return [inputs]", "PB_EDIT"),
    ("    return inputs.numpy()", "PB_EDIT"),
    ("    return inputs.unsqueeze(0)", "PB_EDIT_SHAPE"),
    ("    return inputs[:, :-1]", "PB_EDIT_SHAPE"),
    ("    return inputs.to(torch.float64)", "PB_EDIT_DTYPE"),
    ("    return inputs.long()", "PB_EDIT_DTYPE"),
    ("    return inputs.to_sparse()", "PB_EDIT"),
    ("    return inputs.to('meta')", "PB_EDIT"),
]


@pytest.mark.parametrize(("body", "code"), FAULTS)
@pytest.mark.parametrize("mode", ["forward", "backward"])
def test_what_an_edit_may_not_return(pair: Gang, body: str, code: str, mode: str) -> None:
    run = {**RUN, "mode": mode, **({"loss": {"kind": "sumLogits"}} if mode == "backward" else {})}
    with pytest.raises(PatchbayError) as caught:
        pair.run({"hooks": [hook(CUT, body)], "runs": [run]})
    assert caught.value.code.startswith(code)
    assert caught.value.message
    assert pair.run({"runs": [RUN]}).result["warnings"] == []


@pytest.mark.parametrize("module", ["model", "model.embed_tokens"])
@pytest.mark.parametrize("token", [128, -1])
def test_ids_that_no_embedding_has_end_the_job(gang: Gang, module: str, token: int) -> None:
    """Above the embedding too: there the model would raise on every rank, and the gang be lost."""
    document = {"hooks": [hook(module, f"    return inputs * 0 + {token}", hookType="forward_pre")], "runs": [RUN]}
    with pytest.raises(PatchbayError) as caught:
        gang.run(document)
    assert (caught.value.code, caught.value.path) == ("PB_TOKEN_OUT_OF_RANGE", "hooks[0]")
    assert str(token) in caught.value.message
    assert gang.run({"runs": [RUN]}).result["runs"]["r"]


TOP_OF_BROKEN = """def edit(current_module, inputs, save_ctx, modules):
    inputs[0, -1, 7] = float("inf")
    inputs[1] = float("nan")
    inputs[2, -1, 8:] = float("-inf")
    return inputs"""


def test_top_tokens_of_logits_that_are_not_finite(gang: Gang) -> None:
    hook = {"name": "h", "moduleName": "lm_head", "save": "none", "edit": {"kind": "python", "source": TOP_OF_BROKEN}}
    inputs = {"tokenIds": [[5, 9, 3]] * 3}
    outcome = gang.run({"hooks": [hook], "runs": [{"name": "r", "inputs": inputs, "return": {"topK": 10}}]})
    *broken, masked = outcome.result["runs"]["r"]["topK"]
    assert broken == [[], []], "neither NaN nor infinity leaves any token a probability"
    assert sorted(token["tokenId"] for token in masked) == list(range(8)), "the others cannot be"
    told = " ".join(outcome.result["warnings"])
    assert [row for row in range(3) if f"row {row} of run r" in told] == [0, 1]
