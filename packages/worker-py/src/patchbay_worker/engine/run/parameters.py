"""Full parameters by name. Every rank takes part in putting the shards together; the root keeps the result."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def gather_parameters(model: nn.Module, names: Sequence[str], *, keep: bool) -> dict[str, Tensor]:
    gathered = {}
    for name in names:
        parameter = model.get_parameter(name)
        full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        if keep:
            gathered[name] = full.detach().cpu().clone()
    return gathered
