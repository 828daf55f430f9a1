"""Records shape, dtype and a checksum of every tensor leaf of every module in one forward. Not here: what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from patchbay_worker.sharding.checksum import Checksum, checksum
from patchbay_worker.sharding.layout import SiteKind

Key = tuple[str, SiteKind]


@dataclass(frozen=True)
class Leaf:
    flat: int
    shape: tuple[int, ...]
    dtype: str
    checksum: Checksum


@dataclass
class Probe:
    """The first call of every module; `irregular` ones were called again with other shapes."""

    leaves: dict[Key, list[Leaf]] = field(default_factory=dict)
    irregular: set[Key] = field(default_factory=set)


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _leaves(tree: Any) -> list[Leaf]:
    flat, _ = pytree.tree_flatten(tree)
    return [
        Leaf(index, tuple(value.shape), dtype_name(value.dtype), checksum(value))
        for index, value in enumerate(flat)
        if isinstance(value, Tensor)
    ]


def probe_forward(model: nn.Module, forward: Callable[[], object], skip: type[nn.Module]) -> Probe:
    """Runs `forward` with a recorder on every module but the root and those of type `skip`; none is left behind."""
    probe = Probe()
    handles = []

    def record(key: Key, tree: Any) -> None:
        leaves = _leaves(tree)
        first = probe.leaves.setdefault(key, leaves)
        if [leaf.shape for leaf in first] != [leaf.shape for leaf in leaves]:
            probe.irregular.add(key)

    for name, module in model.named_modules():
        if not name or isinstance(module, skip):
            continue
        # Defaults bind the loop's name; the hooks return nothing, so they change nothing.
        handles.append(
            module.register_forward_pre_hook(
                lambda _module, args, kwargs, name=name: record((name, "forward_pre"), (args, kwargs)), with_kwargs=True
            )
        )
        handles.append(
            module.register_forward_hook(lambda _module, _args, output, name=name: record((name, "forward"), output))
        )
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return probe
