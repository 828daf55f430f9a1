"""Why a dim of a site may be sharded: the placements of the weights around it. Not here: values (shard_plan.py).

A tensor is accepted as sharded only for one of two reasons: it is the output of a column-wise or the input of a
row-wise layer, or it flows between such layers of one block without passing through sharded weights of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn
from torch.distributed.tensor import Shard

from patchbay_worker.sharding.layout import Dim, SiteKind
from patchbay_worker.sharding.parameters import is_cut, tp_placement


def _weight_dim(module: nn.Module) -> int | None:
    """The dim of a plainly sharded weight; packed (strided) placements hold interleaved parts and do not count."""
    weight = module._parameters.get("weight")
    placement = tp_placement(weight) if weight is not None else None
    # Subclasses of Shard are the packed ones.
    if weight is None or not isinstance(placement, Shard) or type(placement) is not Shard:
        return None
    return placement.dim % weight.ndim


def parallel_width(module: nn.Module, kind: SiteKind) -> int | None:
    """Full size of the last dim that a parallel layer itself leaves sharded on this side of it."""
    dim = _weight_dim(module)
    if isinstance(module, nn.Linear) and (dim, kind) == (0, "forward"):
        return int(module.weight.shape[0])
    if isinstance(module, nn.Linear) and (dim, kind) == (1, "forward_pre"):
        return int(module.weight.shape[1])
    if isinstance(module, nn.Embedding) and (dim, kind) == (1, "forward"):
        return int(module.weight.shape[1])
    return None


def _holds_sharded_weights(module: nn.Module) -> bool:
    return any(is_cut(parameter) for parameter in module.parameters())


def _block_widths(block: nn.Module) -> set[int]:
    """Full widths that flow from the column-wise to the row-wise children of a block."""
    kinds: tuple[SiteKind, SiteKind] = ("forward", "forward_pre")
    widths = (parallel_width(child, kind) for child in block.children() for kind in kinds)
    return {width for width in widths if width is not None}


def explains(model: nn.Module, name: str, kind: SiteKind, dim: int, full: Sequence[int], shape: Sequence[Dim]) -> bool:
    """True when the plan accounts for `dim` of the leaf being cut into contiguous parts, in rank order."""
    module = model.get_submodule(name)
    own = parallel_width(module, kind)
    if own is not None:
        return dim == len(full) - 1 and full[dim] == own
    if _holds_sharded_weights(module):
        return False
    # The first dim that is neither batch nor sequence, with all such behind it, is one width of the block cut into
    # heads: [B, S, H, D] or [B, H, S, D].
    leading = next((index for index, size in enumerate(shape) if isinstance(size, int)), None)
    block = model.get_submodule(name.rpartition(".")[0])
    width = math.prod(size for size, symbol in zip(full[dim:], shape[dim:], strict=True) if isinstance(symbol, int))
    return leading == dim and width in _block_widths(block)
