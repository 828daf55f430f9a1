"""Steered generation of ragged prompts on every kind of mesh: with the cache as without, a prompt in a batch as alone,
and both as plain torch, whichever side that pads. Tokens could agree by luck, so the logits behind them are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from families.conftest import OnMesh
from families.drawn import whole_model
from families.plain_job import padded
from support.checkpoints import make_checkpoint
from support.gang import Gang

PROMPTS = [[5, 9, 31, 4, 17], [7, 3], [60, 61, 62]]
NEW, START = 6, 2  # steered from this absolute position on: within one prompt, behind another
STRENGTH = 1.5
SITES = {
    "llama": "model.layers.1",
    "gemma3": "model.layers.0.mlp.down_proj",
    "gpt2": "transformer.h.0",
}
CASES = [
    ("tp 2", "gemma3"),
    ("pp 2", "llama"),
    ("pp 2 x tp 2", "llama"),
    ("dp 2", "gpt2"),  # learned positions: padding that counts as a token shows at once
]


def steer(value: Tensor) -> Tensor:
    return value + STRENGTH * torch.linspace(-1, 1, value.shape[-1])


def hook(family: str, **where: Any) -> dict[str, Any]:
    source = "def edit(current_module, inputs, save_ctx, modules):\n"
    source += f"    return inputs + {STRENGTH} * torch.linspace(-1, 1, inputs.shape[-1])\n"
    edit = {"kind": "python", "source": source}
    return {"name": "steer", "moduleName": SITES[family], "edit": edit, "save": "none", "where": where}


def close(got: Tensor, want: Tensor, what: str) -> None:
    scale = max(1.0, float(want.abs().max()))
    torch.testing.assert_close(got, want, atol=2e-5 * scale, rtol=0, msg=lambda text: f"{what}: {text}")


def generate(gang: Gang, prompts: list[list[int]], *hooks: dict[str, Any]) -> tuple[list[list[int]], Tensor]:
    run = {"name": "g", "mode": "generate", "inputs": {"tokenIds": prompts}, "maxNewTokens": NEW}
    outcome = gang.run({"hooks": list(hooks), "runs": [{**run, "return": {"logits": "all"}}]})
    return outcome.result["runs"]["g"]["generatedTokenIds"], outcome.tensor("g/logits")


def forward(gang: Gang, prompts: list[list[int]], *hooks: dict[str, Any]) -> Tensor:
    run = {"name": "f", "inputs": {"tokenIds": prompts}, "return": {"logits": "all"}}
    return gang.run({"hooks": list(hooks), "runs": [run]}).tensor("f/logits")


def padded_left(model: Any, prompts: list[list[int]]) -> dict[str, Tensor]:
    """Turns every row round its padding; positions still count real tokens."""
    right = padded(model, prompts)
    width = max(map(len, prompts))
    shifts = [width - len(prompt) for prompt in prompts]
    return {
        key: torch.stack([row.roll(shift) for row, shift in zip(value, shifts, strict=True)])
        for key, value in right.items()
    }


def plain(model: Any, family: str, prompts: list[list[int]], *, left: bool) -> list[Tensor]:
    """Logits of each row's real tokens."""
    width = max(map(len, prompts))
    before = [width - len(prompt) if left else 0 for prompt in prompts]

    def edit(_module: Any, _args: Any, output: Any) -> Any:
        value = (output if isinstance(output, Tensor) else output[0]).clone()
        for row, (prompt, shift) in enumerate(zip(prompts, before, strict=True)):
            part = slice(shift + START, shift + len(prompt))
            value[row, part] = steer(value[row, part])
        return value if isinstance(output, Tensor) else (value, *output[1:])

    handle = model.get_submodule(SITES[family]).register_forward_hook(edit)
    try:
        with torch.no_grad():
            inputs = padded_left(model, prompts) if left else padded(model, prompts)
            logits = model(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    return [
        logits[row, shift : shift + len(prompt)]
        for row, (prompt, shift) in enumerate(zip(prompts, before, strict=True))
    ]


@pytest.mark.parametrize(("on", "family"), CASES, indirect=["on"])
def test_steered_generation(on: OnMesh, family: str, tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / family, family)
    on.gang.load(path)
    steered = hook(family, positions={"from": START})
    tokens, logits = generate(on.gang, PROMPTS, steered)
    _, unsteered = generate(on.gang, PROMPTS)
    assert (logits[:, 0] - unsteered[:, 0])[[0, 2]].abs().max() > 1e-3, "the steering bites"

    # what the model was given: the last new token never goes in
    fed = [[*prompt, *row[:-1]] for prompt, row in zip(PROMPTS, tokens, strict=True)]
    uncached = forward(on.gang, fed, steered)
    model = whole_model(path, "float32")
    forced = {side: plain(model, family, fed, left=side == "left") for side in ("right", "left")}
    for row, (prompt, new) in enumerate(zip(PROMPTS, tokens, strict=True)):
        mine, of_prompt = logits[row, : len(new)], slice(len(prompt) - 1, len(fed[row]))
        assert mine.argmax(-1).tolist() == new
        close(mine, uncached[row, of_prompt], "without the cache")
        for side, values in forced.items():
            close(mine, values[row][of_prompt], f"plain torch, padded on the {side}")
        (alone,), own = generate(on.gang, [prompt], steered)
        assert alone == new
        close(mine, own[0, : len(new)], "alone")
