"""Edits that treat every row of the last dim alike, so that they mean the same for a batch, for each prompt alone and
for the chosen tokens. All but one mix columns, so that a wrong order of shards shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

EDITS: Final = {
    "mix": "return inputs.flip(-1) * 0.5 + inputs.cumsum(-1) * 0.02",
    "affine": "return inputs * 1.5 + 0.3",
    "roll": "return torch.roll(inputs, 1, -1) - 0.2 * inputs.mean(-1, keepdim=True)",
    "assign": "inputs = inputs.clone()\n    inputs[..., :2] = inputs[..., -2:] + 0.5\n    return inputs",
    "project": "u = torch.linspace(-1, 1, inputs.shape[-1]).to(inputs)\n"
    "    return inputs - (inputs @ u).unsqueeze(-1) * u / (u @ u) + 0.1",
}


def source_of(name: str) -> str:
    return f"def edit(current_module, inputs, save_ctx, modules):\n    {EDITS[name]}\n"


def plain_edit(source: str) -> Callable[[Tensor], Tensor]:
    """The same source in this process."""
    names: dict[str, Any] = {"torch": torch}
    exec(source, names)
    return lambda value: names["edit"](None, value, None, None)
