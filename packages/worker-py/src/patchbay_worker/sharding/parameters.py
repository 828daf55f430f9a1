"""Full parameters and their gradients from the shards of all ranks, and back. Every rank takes part.

Not here: which parameters (engine/run/parameters.py), who sees them (hooks/active_parameter.py).
"""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def full_value(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def full_gradient(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Of a parameter, whichever of the two is wrapped."""
    if isinstance(gradient, DTensor) or not isinstance(parameter, DTensor):
        return full_value(gradient)
    return DTensor.from_local(gradient, parameter.device_mesh, parameter.placements, run_check=False).full_tensor()


def gradient_shard(full: Tensor, gradient: Tensor, parameter: Tensor) -> Tensor:
    """This rank's part of a full gradient, in the form of `gradient`."""
    if not isinstance(parameter, DTensor):
        return full
    placed = distribute_tensor(full, parameter.device_mesh, parameter.placements, src_data_rank=None)
    local: Tensor = placed if isinstance(gradient, DTensor) else placed.to_local()
    return local


def is_cut(parameter: Tensor) -> bool:
    """Whether every rank has a part of its own."""
    return isinstance(parameter, DTensor) and not all(place.is_replicate() for place in parameter.placements)


def bytes_from_other_ranks(full: Tensor, parameter: Tensor) -> int:
    if not isinstance(parameter, DTensor) or not is_cut(parameter):
        return 0
    ranks = parameter.device_mesh.size()
    return full.nbytes * (ranks - 1) // ranks
