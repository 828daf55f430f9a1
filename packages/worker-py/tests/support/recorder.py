"""Writes down every collective that a rank issues, in order: (operation, ranks of the group, shape)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import Tensor

Entry = tuple[str, tuple[int, ...], tuple[int, ...]]
COLLECTIVES = ("gather", "scatter", "broadcast", "all_reduce", "all_gather")


class Recorder:
    """Replaces torch's functions until `stop`. Point-to-point messages differ between two ends and are left out."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._originals: dict[str, Callable[..., Any]] = {}

    def start(self) -> None:
        for name in COLLECTIVES:
            original = self._originals[name] = getattr(dist, name)
            setattr(dist, name, self._recording(name, original))

    def stop(self) -> list[Entry]:
        for name, original in self._originals.items():
            setattr(dist, name, original)
        return self.entries

    def _recording(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            group = kwargs.get("group")
            # The tensor that every rank gives: the second argument of all_gather, else the first.
            value = args[1] if name == "all_gather" else args[0]
            shape = tuple(value.shape) if isinstance(value, Tensor) else ()
            ranks = tuple(dist.get_process_group_ranks(group if group is not None else dist.group.WORLD))
            self.entries.append((name, ranks, shape))
            return original(*args, **kwargs)

        return record
