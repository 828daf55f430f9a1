"""Takes one tensor leaf out of a module's output or arguments and puts it back; the container is rebuilt exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class PickedLeaf:
    """`flat` is the position among all leaves, None included. `spec` is absent when the tree is the tensor itself."""

    tensor: Tensor
    flat: int
    leaves: list[Any]
    spec: pytree.TreeSpec | None

    def replaced(self, value: Tensor) -> Any:
        if self.spec is None:
            return value
        leaves = list(self.leaves)
        leaves[self.flat] = value
        return pytree.tree_unflatten(leaves, self.spec)


def pick_at(tree: Any, flat: int) -> PickedLeaf | None:
    """The leaf at a position among all leaves; None when there is no tensor. Gradients may be absent one by one."""
    if isinstance(tree, Tensor):
        return PickedLeaf(tree, 0, [tree], None) if flat == 0 else None
    leaves, spec = pytree.tree_flatten(tree)
    if flat >= len(leaves) or not isinstance(leaves[flat], Tensor):
        return None
    return PickedLeaf(leaves[flat], flat, leaves, spec)


def pick(tree: Any, index: int) -> PickedLeaf | None:
    """Tensor leaf number `index`, depth first; None when there are not so many."""
    if isinstance(tree, Tensor):
        return PickedLeaf(tree, 0, [tree], None) if index == 0 else None
    leaves, spec = pytree.tree_flatten(tree)
    tensors = [flat for flat, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    if index >= len(tensors):
        return None
    return PickedLeaf(leaves[tensors[index]], tensors[index], leaves, spec)
