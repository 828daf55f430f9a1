"""Generation with the cache: equal to teacher forcing, hooks at every step, absolute positions, ends of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError
from support.checkpoints import END, make_checkpoint
from support.gang import Gang
from support.plain_hooks import greedy, plain_logits

PROMPTS = [[5, 9, 31, 4, 17], [7, 3, 100]]
MODULE = "model.layers.1.mlp.gate_proj"
SCALE = """
def edit(current_module, inputs, save_ctx, modules):
    save_ctx[f"call_{current_module.call}"] = {"shape": list(inputs.shape), "positions": current_module.batch.positions}
    return inputs * 2 + 0.1
"""


def scale(value: Tensor) -> Tensor:
    return value * 2 + 0.1


def generate(**more: Any) -> dict[str, Any]:
    return {"name": "g", "mode": "generate", "inputs": {"tokenIds": PROMPTS}, "maxNewTokens": 6, **more}


def test_equals_teacher_forcing_with_an_edit(gang: Gang, llama: Path) -> None:
    hook = {"name": "h", "moduleName": MODULE, "edit": {"kind": "python", "source": SCALE}}
    outcome = gang.run({"hooks": [hook], "runs": [generate(), generate(name="plain", hooks={"names": []})]})
    edited, plain = (outcome.result["runs"][name]["generatedTokenIds"] for name in ("g", "plain"))
    assert edited == [greedy(llama, prompt, 6, (MODULE, "forward", scale)) for prompt in PROMPTS]
    assert plain == [greedy(llama, prompt, 6) for prompt in PROMPTS]
    assert edited != plain
    assert outcome.report("h")["calls"] == 6
    saved = outcome.result["saveCtx"]
    assert saved["call_0"] == {"shape": [2, 5, 128], "positions": [[0, 1, 2, 3, 4], [0, 1, 2]]}
    assert saved["call_3"] == {"shape": [2, 1, 128], "positions": [[7], [5]]}


def test_tokens_are_told_as_they_come(pair: Gang, llama: Path) -> None:
    outcome = pair.run({"runs": [generate()]})
    tokens = [event for event in outcome.events if event["type"] == "token"]
    generated = outcome.result["runs"]["g"]["generatedTokenIds"]
    want = [(row, step, length + step) for step in range(6) for row, length in enumerate([5, 3])]
    assert [(event["row"], event["step"], event["position"]) for event in tokens] == want
    assert [event["tokenId"] for event in tokens if event["row"] == 1] == generated[1]
    assert tokens[0]["text"] == f"w{generated[0][0]}"
    assert outcome.result["runs"]["g"]["stopReasons"] == ["length", "length"]


def test_where_steps_and_absolute_positions(pair: Gang) -> None:
    def capture(**where: Any) -> list[list[tuple[int, int, int]]]:
        hook = {"name": "h", "moduleName": "model.layers.2", "where": where}
        result = pair.run({"hooks": [hook], "runs": [generate()]}).result
        return [
            [(label["row"], label["position"], label["step"]) for label in each["rows"] if label]
            for each in result["activations"]
        ]

    assert capture(steps=[2]) == [[(0, 6, 2), (1, 4, 2)]]
    assert capture(positions=[-1]) == [[(0, 4, 0), (1, 2, 0)]]
    assert capture(positions=[4]) == [[(0, 4, 0)], [(1, 4, 2)]]
    assert capture(positions={"from": 8}) == [[(0, 8, 4)], [(0, 9, 5), (1, 7, 5)][:1]]
    assert capture(rows=[1], positions={"from": -1, "to": 5}) == [[(1, 2, 0)], [(1, 3, 1)], [(1, 4, 2)]]


@pytest.mark.parametrize("where", [{"positions": [10]}, {"steps": [6]}, {"positions": [0], "steps": [1]}])
def test_what_generation_never_reaches_is_refused(pair: Gang, where: dict[str, Any]) -> None:
    with pytest.raises(PatchbayError) as caught:
        pair.run({"hooks": [{"name": "h", "moduleName": "model.layers.2", "where": where}], "runs": [generate()]})
    assert caught.value.code == "PB_WHERE_EMPTY"


def test_a_row_stops_at_the_end_token(pair: Gang, llama: Path) -> None:
    # The edit of the logits makes END the best token from position 6 on: row 0 gets there one step after its prompt.
    source = f"""
def edit(current_module, inputs, save_ctx, modules):
    edited = inputs.clone()
    for row, positions in enumerate(current_module.batch.positions):
        for column, position in enumerate(positions):
            if position >= 6:
                edited[row, column, {END}] = 1e4
    return edited
"""
    hook = {"name": "h", "moduleName": "lm_head", "edit": {"kind": "python", "source": source}, "save": "none"}
    run = generate(maxNewTokens=8, **{"return": {"logits": "last"}})
    outcome = pair.run({"hooks": [hook], "runs": [run]})
    result = outcome.result["runs"]["g"]
    first, second = result["generatedTokenIds"]
    assert first == [*greedy(llama, PROMPTS[0], 2), END]
    assert second == [*greedy(llama, PROMPTS[1], 4), END]
    assert result["stopReasons"] == ["eos", "eos"]
    assert outcome.report("h")["calls"] == 5  # no step after the last row has stopped
    assert float(outcome.tensor("g/logits")[0].max()) == 1e4  # of the step that stopped the row


def test_sampling_depends_on_the_seed_only(gang: Gang) -> None:
    def sample(seed: int, **more: Any) -> Any:
        result = gang.run({"seed": seed, "runs": [generate(temperature=2.0, **more)]}).result
        return result["runs"]["g"]["generatedTokenIds"]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    greedy_tokens = gang.run({"runs": [generate()]}).result["runs"]["g"]["generatedTokenIds"]
    assert sample(1, topP=1e-6) == greedy_tokens


def test_logits_are_those_that_chose_the_tokens(pair: Gang, llama: Path) -> None:
    runs = [
        generate(name="all", **{"return": {"logits": "all"}}),
        generate(name="last", **{"return": {"logits": "last"}}),
    ]
    outcome = pair.run({"runs": runs})
    every, last = outcome.tensor("all/logits"), outcome.tensor("last/logits")
    generated = outcome.result["runs"]["all"]["generatedTokenIds"]
    assert every.shape == (2, 6, 128)
    assert every.argmax(-1).tolist() == generated
    torch.testing.assert_close(every[:, -1], last)
    forced = plain_logits(llama, [PROMPTS[1] + generated[1][:-1]])[0]
    torch.testing.assert_close(every[1], forced[2:], atol=2e-5, rtol=0)


def test_ragged_generation_beyond_a_sliding_window_is_refused(bare_single: Gang, tmp_path: Path) -> None:
    bare_single.load(make_checkpoint(tmp_path / "mistral", "mistral"))
    with pytest.raises(PatchbayError) as caught:
        bare_single.run({"runs": [generate(maxNewTokens=12)]})
    assert caught.value.code == "PB_NOT_SUPPORTED"
    assert "sliding window" in caught.value.message
    alone = {"runs": [generate(maxNewTokens=12, inputs={"tokenIds": PROMPTS[:1]})]}
    want = greedy(tmp_path / "mistral", PROMPTS[0], 12)
    assert bare_single.run(alone).result["runs"]["g"]["generatedTokenIds"] == [want]


BROKEN = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs * float('nan')"
FORCED = "def edit(current_module, inputs, save_ctx, modules):\n    inputs[..., 7] = float('inf')\n    return inputs"


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_no_token_is_chosen_from_logits_that_are_not_numbers(pair: Gang, temperature: float) -> None:
    """torch would draw none and leave the other ranks waiting, or take token 0."""
    hook = {"moduleName": "lm_head", "edit": {"kind": "python", "source": BROKEN}, "where": {"steps": [2], "rows": [1]}}
    with pytest.raises(PatchbayError) as caught:
        pair.run({"hooks": [hook], "runs": [generate(temperature=temperature)]})
    assert caught.value.code == "PB_LOGITS_NOT_FINITE"
    assert "row 1 at step 2" in caught.value.message
    assert pair.run({"runs": [generate(temperature=temperature)]}).result["runs"]["g"]["generatedTokenIds"]


def test_an_infinite_logit_is_a_choice_where_none_is_drawn(pair: Gang) -> None:
    forced = {"hooks": [{"moduleName": "lm_head", "edit": {"kind": "python", "source": FORCED}}]}
    outcome = pair.run({**forced, "runs": [generate(maxNewTokens=3)]})
    assert outcome.result["runs"]["g"]["generatedTokenIds"] == [[7] * 3, [7] * 3]
    with pytest.raises(PatchbayError, match="PB_LOGITS_NOT_FINITE"):
        pair.run({**forced, "runs": [generate(maxNewTokens=3, temperature=1.0)]})
