"""Writes down every collective that a rank issues, in order: (operation, ranks of the group, shape), and with
`detailed` also the group's name and whether it was asynchronous, whose end is an entry of its own: ("wait", ..).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import Tensor

Entry = tuple[Any, ...]
COLLECTIVES = ("gather", "scatter", "broadcast", "all_reduce", "all_gather")


class _Work:
    """A collective under way that tells when it is waited for."""

    def __init__(self, work: Any, told: Callable[[], None]) -> None:
        self._work = work
        self._told = told

    def wait(self) -> None:
        self._told()
        self._work.wait()


class Recorder:
    """Replaces torch's functions until `stop`. Point-to-point messages differ between two ends and are left out."""

    def __init__(self, *, detailed: bool = False) -> None:
        self._detailed = detailed
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
            entry: Entry = (name, ranks, shape)
            if not self._detailed:
                self.entries.append(entry)
                return original(*args, **kwargs)
            label = group.group_name if group is not None else "default"
            later = bool(kwargs.get("async_op"))
            self.entries.append((*entry, label, later))
            work = original(*args, **kwargs)
            return _Work(work, lambda: self.entries.append(("wait", ranks, shape, label, True))) if later else work

        return record
