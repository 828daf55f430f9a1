"""Full parameters and their gradients from the shards of all ranks, and back. Every rank takes part.

Not here: which parameters (engine/run/parameters.py), who sees them (hooks/active_parameter.py).
"""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, Placement, distribute_tensor

from patchbay_worker.sharding.fsdp import AXIS


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


def tp_placement(parameter: Tensor) -> Placement | None:
    """How the model's own plan has placed it; None where it has not."""
    if not isinstance(parameter, DTensor):
        return None
    names = parameter.device_mesh.mesh_dim_names or ()
    axes = [axis for axis in range(parameter.device_mesh.ndim) if axis >= len(names) or names[axis] != AXIS]
    return parameter.placements[axes[-1]] if axes else None


def is_cut(parameter: Tensor) -> bool:
    """Whether every tp rank has a part of its own."""
    placement = tp_placement(parameter)
    return placement is not None and not placement.is_replicate()


def bytes_from_other_ranks(full: Tensor, parameter: Tensor) -> int:
    if not isinstance(parameter, DTensor) or all(placement.is_replicate() for placement in parameter.placements):
        return 0
    ranks = parameter.device_mesh.size()
    return full.nbytes * (ranks - 1) // ranks
