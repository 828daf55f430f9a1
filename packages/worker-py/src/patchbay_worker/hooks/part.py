"""The part of a tensor that a hook sees: all of it in its own shape, or the chosen tokens as [rows, width, ..]."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from patchbay_worker.hooks.selection import Selection
from patchbay_worker.hooks.spec import token_dims
from patchbay_worker.sharding.layout import Site


@dataclass(frozen=True)
class Part:
    """`dim` is the sharded dim of `value`; `owned` values are nobody else's. `leading` dims hold tokens, if any."""

    value: Tensor
    dim: int | None
    owned: bool
    leading: int | None
    mask: Tensor | None
    _whole: Tensor
    _grid: Tensor | None
    _selection: Selection

    @property
    def labelled(self) -> bool:
        return self.leading is not None

    @property
    def padded(self) -> int:
        """How many leading dims hold padding besides tokens."""
        return self.leading or 0 if self.mask is not None else 0

    def put(self, edited: Tensor) -> Tensor:
        """The whole tensor with this part replaced."""
        if self._grid is None:
            return edited
        return self._selection.put(self._grid, edited).reshape(self._whole.shape)


def part_of(tensor: Tensor, dim: int | None, selection: Selection, site: Site | None) -> Part | None:
    """None where the selection needs one row per token and the tensor has other leading dims."""
    batch, width = len(selection.view.tokens), selection.view.width
    how = token_dims(site)
    if how == "rows" and tensor.shape[:2] != (batch, width):
        how = None
    if how == "flat" and tensor.shape[0] != batch * width:
        how = None
    if selection.whole or (how is None and not selection.of_tokens):
        mask = selection.mask if how is not None else None
        if mask is not None and how == "flat":
            mask = mask.flatten()
        leading = {"rows": 2, "flat": 1, None: None}[how]
        return Part(tensor, dim, False, leading, mask, tensor, None, selection)
    if how is None:
        return None
    grid = tensor if how == "rows" else tensor.reshape(batch, width, *tensor.shape[1:])
    if how == "flat" and dim is not None:
        dim += 1
    return Part(selection.take(grid), dim, True, 2, selection.mask, tensor, grid, selection)


def whole_part(tensor: Tensor, dim: int | None, selection: Selection) -> Part:
    """All of a tensor, whatever is selected: for a rank that does not see all rows."""
    return Part(tensor, dim, False, None, None, tensor, None, selection)
