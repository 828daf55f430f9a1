"""A batch of prompts of different lengths gives each row what it gives alone: mask and position ids are right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.checkpoints import make_checkpoint
from support.gang import Gang
from support.plain_hooks import plain_logits

PROMPTS = [[5, 9, 31, 4, 17, 80, 12], [7], [3, 100, 64, 8]]
DOCUMENT = {
    "runs": [
        {"name": "all", "inputs": {"tokenIds": PROMPTS}, "return": {"logits": "all"}},
        {"name": "last", "inputs": {"tokenIds": PROMPTS}, "return": {"logits": "last", "topK": 3}},
    ]
}


def check(gang: Gang, path: Path) -> None:
    outcome = gang.run(DOCUMENT)
    every, last = outcome.tensor("all/logits"), outcome.tensor("last/logits")
    for row, prompt in enumerate(PROMPTS):
        alone = plain_logits(path, [prompt])[0]
        torch.testing.assert_close(every[row, : len(prompt)], alone, atol=2e-5, rtol=0)
        torch.testing.assert_close(last[row], alone[-1], atol=2e-5, rtol=0)
        top = outcome.result["runs"]["last"]["topK"][row]
        assert [each["tokenId"] for each in top] == alone[-1].topk(3).indices.tolist()
        probabilities = alone[-1].softmax(-1)
        assert top[0]["probability"] == pytest.approx(float(probabilities.max()), abs=1e-5)


def test_llama(gang: Gang, llama: Path) -> None:
    check(gang, llama)


@pytest.mark.parametrize("family", ["gpt2", "opt", "mistral"])
def test_absolute_positions_and_windows(bare_single: Gang, tmp_path: Path, family: str) -> None:
    path = make_checkpoint(tmp_path / family, family)
    bare_single.load(path)
    check(bare_single, path)
