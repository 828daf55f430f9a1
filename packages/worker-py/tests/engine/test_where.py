"""`where`: the edit sees and returns the chosen tokens only; positions count each row's real tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError
from support.gang import Gang, Outcome
from support.plain_hooks import plain_logits

ROWS = [[5, 9, 31, 4, 17], [7, 3, 100]]
FILL = """
def edit(current_module, inputs, save_ctx, modules):
    save_ctx.shape = list(inputs.shape)
    save_ctx.batch = {name: getattr(current_module.batch, name) for name in ("lengths", "token_ids", "positions")}
    return torch.full_like(inputs, 0.5)
"""


def run(gang: Gang, module: str, where: dict[str, Any], **hook: Any) -> Outcome:
    edit = {"kind": "python", "source": FILL}
    document = {
        "hooks": [{"name": "h", "moduleName": module, "edit": edit, "where": where, "save": "post", **hook}],
        "runs": [{"name": "r", "inputs": {"tokenIds": ROWS}, "return": {"logits": "all"}}],
    }
    return gang.run(document)


def filled(positions: list[int]) -> Any:
    def edit(value: Tensor) -> Tensor:
        value[0, positions] = 0.5
        return value

    return edit


@pytest.mark.parametrize("module", ["model.layers.1", "model.layers.1.mlp.gate_proj"])
@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ({"positions": [1]}, [[1], [1]]),
        ({"positions": [-1]}, [[4], [2]]),
        ({"positions": [-1, 0]}, [[4, 0], [2, 0]]),
        ({"positions": [4]}, [[4], []]),
        ({"positions": {"from": 1, "to": 3}}, [[1, 2], [1, 2]]),
        ({"positions": {"from": -2}}, [[3, 4], [1, 2]]),
        ({"positions": {"to": -1}}, [[0, 1, 2, 3], [0, 1]]),
        ({"rows": [1]}, [[], [0, 1, 2]]),
        ({"rows": [0], "positions": [2, -1]}, [[2, 4], []]),
    ],
)
def test_only_the_chosen_tokens_are_edited(
    pair: Gang, llama: Path, module: str, where: dict[str, Any], chosen: list[list[int]]
) -> None:
    outcome = run(pair, module, where)
    logits = outcome.tensor("r/logits")
    for row, (tokens, positions) in enumerate(zip(ROWS, chosen, strict=True)):
        want = plain_logits(llama, [tokens], (module, "forward", filled(positions)))[0]
        if positions:
            assert (want - plain_logits(llama, [tokens])[0]).abs().max() > 1e-3
        torch.testing.assert_close(logits[row, : len(tokens)], want, atol=2e-5, rtol=0)

    shown = [(row, positions) for row, positions in enumerate(chosen) if positions]
    width = max(len(positions) for _, positions in shown)
    assert outcome.result["saveCtx"]["shape"][:2] == [len(shown), width]
    batch = outcome.result["saveCtx"]["batch"]
    assert batch["lengths"] == [len(positions) for _, positions in shown]
    assert batch["positions"] == [positions for _, positions in shown]
    assert batch["token_ids"] == [[ROWS[row][position] for position in positions] for row, positions in shown]
    assert outcome.report("h")["rowsTouched"] == sum(len(positions) for _, positions in shown)


def test_captured_rows_are_labelled(pair: Gang) -> None:
    outcome = run(pair, "model.layers.1", {"positions": {"from": -4}})
    (activation,) = outcome.result["activations"]
    assert activation["shape"] == [2, 4, 64]
    assert activation["rows"] == [
        {"row": 0, "position": 1, "tokenId": 9, "step": 0},
        {"row": 0, "position": 2, "tokenId": 31, "step": 0},
        {"row": 0, "position": 3, "tokenId": 4, "step": 0},
        {"row": 0, "position": 4, "tokenId": 17, "step": 0},
        {"row": 1, "position": 0, "tokenId": 7, "step": 0},
        {"row": 1, "position": 1, "tokenId": 3, "step": 0},
        {"row": 1, "position": 2, "tokenId": 100, "step": 0},
        None,
    ]


def test_whole_rows_are_labelled_and_padding_is_not(pair: Gang) -> None:
    document = {"hooks": [{"name": "h", "moduleName": "model.norm"}], "runs": [{"inputs": {"tokenIds": ROWS}}]}
    (activation,) = pair.run(document).result["activations"]
    assert activation["shape"] == [2, 5, 64]
    assert [label is not None for label in activation["rows"]] == [True] * 8 + [False] * 2


@pytest.mark.parametrize(
    ("where", "path", "says"),
    [
        ({"rows": [2]}, "hooks[0].where.rows", "no row 2"),
        ({"positions": [0, 5]}, "hooks[0].where.positions[1]", "position 5"),
        ({"positions": [-6]}, "hooks[0].where.positions[0]", "position -6"),
        ({"positions": {"from": 5}}, "hooks[0].where.positions", "between"),
        ({"steps": [1]}, "hooks[0].where.steps", "1 forward calls"),
    ],
)
def test_empty_selections_are_refused(pair: Gang, where: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(PatchbayError) as caught:
        run(pair, "model.layers.1", where)
    assert (caught.value.code, caught.value.path) == ("PB_WHERE_EMPTY", path)
    assert says in caught.value.message


def test_where_needs_token_rows(pair: Gang) -> None:
    with pytest.raises(PatchbayError) as caught:
        # The attention mask: [B, 1, S, S] has no row per token.
        run(pair, "model.layers.1", {"positions": [0]}, hookType="forward_pre", unpackIdx=1)
    assert caught.value.code == "PB_WHERE_UNSUPPORTED"


def test_a_token_that_is_named_twice_is_chosen_once(pair: Gang) -> None:
    outcome = run(pair, "model.layers.1", {"rows": [1, 0, 1], "positions": [-1, 4, 2]})
    (activation,) = outcome.result["activations"]
    places = [(label["row"], label["position"]) for label in activation["rows"] if label is not None]
    assert places == [(1, 2), (0, 4), (0, 2)]


def test_steps_alone_choose_calls_of_tensors_without_tokens(pair: Gang) -> None:
    """The attention mask, [B, 1, 1, all tokens so far]."""
    hook = {"name": "h", "moduleName": "model.layers.1", "hookType": "forward_pre", "unpackIdx": 1}
    story = {"name": "r", "mode": "generate", "inputs": {"tokenIds": ROWS}, "maxNewTokens": 4}
    outcome = pair.run({"hooks": [{**hook, "where": {"steps": [2]}}], "runs": [story]})
    (activation,) = outcome.result["activations"]
    assert (activation["shape"], activation["call"]) == ([2, 1, 1, 7], 2)
    assert outcome.captured(activation["tensor"])[1, 0, 0].tolist() == [True] * 3 + [False] * 2 + [True] * 2
