"""Writes down every collective that a rank issues, in order: (operation, ranks of the group, shape), and with
`detailed` also the group's name and whether it was asynchronous, whose end is an entry of its own: ("wait", ..).
A message between two ranks, by torch or over links, is ("message", (from, to), shape) on both of its ends.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import torch.distributed as dist
from torch import Tensor

from patchbay_worker.sharding.links import Links

Entry = tuple[Any, ...]
#: Each with the argument that has the same shape on every rank. FSDP gives them all by keyword.
COLLECTIVES: Final = {
    "gather": "tensor",
    "scatter": "tensor",
    "broadcast": "tensor",
    "all_reduce": "tensor",
    "all_gather": "tensor",
    "all_gather_single": "input_tensor",
    "reduce_scatter_single": "output",
}
#: Ours by `send` and `recv`; transformers' stages put theirs into a batch of one.
MESSAGES: Final = ("send", "recv")
BATCH: Final = "batch_isend_irecv"


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
        self._links: tuple[Callable[..., Any], ...] = (Links.send, Links.receive)

    def start(self) -> None:
        for name in COLLECTIVES:
            self._replace(name, self._recording)
        for name in MESSAGES:
            self._replace(name, self._recording_message)
        self._replace(BATCH, self._recording_batch)
        self._record_links()

    def stop(self) -> list[Entry]:
        for name, original in self._originals.items():
            setattr(dist, name, original)
        for name, original in zip(("send", "receive"), self._links, strict=True):
            setattr(Links, name, original)
        return self.entries

    def _replace(self, name: str, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
        original = self._originals[name] = getattr(dist, name)
        setattr(dist, name, wrap(name, original))

    def _recording(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def record(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            group, shape = given.get("group"), tuple(given[COLLECTIVES[name]].shape)
            ranks = tuple(dist.get_process_group_ranks(group if group is not None else dist.group.WORLD))
            entry: Entry = (name, ranks, shape)
            if not self._detailed:
                self.entries.append(entry)
                return original(*args, **kwargs)
            label = group.group_name if group is not None else "default"
            later = bool(given.get("async_op"))
            self.entries.append((*entry, label, later))
            work = original(*args, **kwargs)
            return _Work(work, lambda: self.entries.append(("wait", ranks, shape, label, True))) if later else work

        return record

    def _recording_message(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def record(tensor: Tensor, **kwargs: Any) -> Any:
            peer = kwargs["group_dst" if name == "send" else "group_src"]
            self._message(name, dist.get_global_rank(kwargs["group"], peer), tensor)
            return original(tensor, **kwargs)

        return record

    def _recording_batch(self, _name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def record(operations: list[dist.P2POp]) -> Any:
            for each in operations:
                self._message(each.op.__name__.removeprefix("i"), each.peer, each.tensor)
            return original(operations)

        return record

    def _record_links(self) -> None:
        send, receive = self._links

        def recorded_send(links: Links, value: Tensor, to: int) -> None:
            self._message("send", links.ranks[to], value)
            send(links, value, to)

        def recorded_receive(links: Links, value: Tensor, source: int, *, asleep: bool = False) -> Tensor:
            self._message("recv", links.ranks[source], value)
            got: Tensor = receive(links, value, source, asleep=asleep)
            return got

        for name, replacement in (("send", recorded_send), ("receive", recorded_receive)):
            setattr(Links, name, replacement)

    def _message(self, way: str, peer: int, tensor: Tensor) -> None:
        own = dist.get_rank()
        ends = (own, peer) if way == "send" else (peer, own)
        self.entries.append(("message", ends, tuple(tensor.shape)))
