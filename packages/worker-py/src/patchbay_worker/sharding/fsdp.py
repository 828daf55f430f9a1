"""What FSDP2 changes about a module: its class, and whether its weights are whole at the moment. Its mesh axis is dp.

Not here: wrapping a model (engine/load.py), gradients of its weights (hooks/active_parameter.py).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

AXIS = "fsdp"


def class_name(module: nn.Module) -> str:
    """The model's own class, not the one that FSDP2 has made of it."""
    classes = type(module).__mro__
    return classes[2].__name__ if isinstance(module, FSDPModule) else classes[0].__name__


def free_weights(model: nn.Module) -> None:
    """Every weight is a shard again; the last layers stay whole after a forward otherwise."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def is_managed(parameter: Tensor) -> bool:
    """Whether this is the shard that FSDP2 holds; the graph then runs over another tensor."""
    return isinstance(parameter, DTensor) and AXIS in (parameter.device_mesh.mesh_dim_names or ())
