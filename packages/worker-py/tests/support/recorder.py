"""Writes down every collective that a rank issues, in order: (operation, ranks of the group, shape), and with
`detailed` also the group's name and whether it was asynchronous, whose end is an entry of its own: ("wait", ..).
A message between two ranks is ("message", (from, to), shape) at both of its ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import Tensor

Entry = tuple[Any, ...]
#: The last two are FSDP2's.
COLLECTIVES = (
    "gather",
    "scatter",
    "broadcast",
    "all_reduce",
    "all_gather",
    "all_gather_single",
    "reduce_scatter_single",
)
MESSAGE = "message"


class _Work:
    """A collective under way that tells when it is waited for."""

    def __init__(self, work: Any, told: Callable[[], None]) -> None:
        self._work = work
        self._told = told

    def wait(self) -> None:
        self._told()
        self._work.wait()


class Recorder:
    """Replaces torch's functions until `stop`."""

    def __init__(self, *, detailed: bool = False) -> None:
        self._detailed = detailed
        self.entries: list[Entry] = []
        self._originals: dict[str, Callable[..., Any]] = {}

    def start(self) -> None:
        for name in COLLECTIVES:
            self._replace(name, self._recording)
        for name in ("send", "recv"):
            self._replace(name, self._message)
        self._replace("batch_isend_irecv", self._messages)

    def _replace(self, name: str, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
        original = self._originals[name] = getattr(dist, name)
        setattr(dist, name, wrap(name, original))

    def stop(self) -> list[Entry]:
        for name, original in self._originals.items():
            setattr(dist, name, original)
        return self.entries

    def _recording(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            group = kwargs.get("group")
            value = kwargs["input"] if "input" in kwargs else args[1] if name.startswith("all_gather") else args[0]
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

    def _message(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def record(tensor: Tensor, **kwargs: Any) -> Any:
            group = kwargs["group"]
            peer = dist.get_global_rank(group, kwargs["group_dst" if name == "send" else "group_src"])
            self._told(name == "send", peer, tensor)
            return original(tensor, **kwargs)

        return record

    def _messages(self, _name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def record(operations: list[Any]) -> Any:
            for each in operations:
                self._told(each.op is dist.isend, each.peer, each.tensor)
            return original(operations)

        return record

    def _told(self, is_sent: bool, peer: int, tensor: Tensor) -> None:
        mine = dist.get_rank()
        self.entries.append((MESSAGE, (mine, peer) if is_sent else (peer, mine), tuple(tensor.shape)))
