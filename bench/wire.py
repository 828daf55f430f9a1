"""Bytes that hooks move between ranks: counted where torch and the edit service move them, and by formula.

S is the whole of a hook's tensor over all layers, n the ranks that each have a part. A gather or a scatter moves
S (n - 1) / n, a broadcast S (n - 1); an edit moves its tensor there and back, and so does its gradient. Stages: what
was read goes home by a message, and an edit of a later stage to the home rank's sandbox and back. A graph edit that
every rank computes for itself moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from patchbay_worker.engine.pipeline.edit_links import RemoteSandbox
from patchbay_worker.frames import Frame
from patchbay_worker.sharding.links import HEADER, Links

Route = Literal["read", "edit", "local"]


class Wire:
    """What this rank receives of numbers that are no integers, which agreements are made of."""

    def __init__(self) -> None:
        self.bytes = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, received in (("gather", _gathered), ("scatter", _part), ("broadcast", _part), ("recv", _all)):
                stack.enter_context(patch.object(dist, name, self._counted(getattr(dist, name), received)))
            ask = RemoteSandbox._ask

            def counted(remote: RemoteSandbox, frame: Frame, *rest: Any) -> bytes:
                answer = ask(remote, frame, *rest)
                self.bytes += len(frame.body) + len(answer)
                return answer

            stack.enter_context(patch.object(RemoteSandbox, "_ask", counted))
            receive = Links.receive

            def linked(links: Links, value: Tensor, source: int, *, asleep: bool = False) -> Tensor:
                self.bytes += HEADER.size + value.nbytes
                return receive(links, value, source, asleep=asleep)

            stack.enter_context(patch.object(Links, "receive", linked))
            yield

    def _counted(self, original: Callable[..., Any], received: Callable[..., int]) -> Callable[..., Any]:
        def counted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if tensor.is_floating_point():
                self.bytes += received(tensor, **kwargs)
            return original(tensor, *args, **kwargs)

        return counted


def _gathered(tensor: Tensor, *, group: dist.ProcessGroup, group_dst: int, **_: Any) -> int:
    ours = dist.get_rank(group) == group_dst
    return tensor.nbytes * (dist.get_world_size(group) - 1) if ours else 0


def _part(
    tensor: Tensor, *, group: dist.ProcessGroup, group_src: int | None = None, src: int | None = None, **_: Any
) -> int:
    source = dist.get_group_rank(group, src) if src is not None else group_src
    return 0 if dist.get_rank(group) == source else tensor.nbytes


def _all(tensor: Tensor, **_: Any) -> int:
    return tensor.nbytes


def moved(run: Callable[[], object]) -> int:
    """By all ranks together; each of them calls it."""
    wire = Wire()
    with wire.counting():
        run()
    total = torch.tensor([wire.bytes])
    if dist.is_initialized():
        dist.all_reduce(total)
    return int(total)


def formula(mesh: dict[str, int], size: int, route: Route, *, replicated: bool) -> int:
    """For one pass over a tensor of `size` bytes that tp does not cut when it is `replicated`."""
    pp, dp, tp = mesh["pp"], mesh["dp"], mesh["tp"]
    if route == "local":
        return formula(mesh, size, "edit", replicated=replicated) if dp > 1 else 0
    ways = 2 if route == "edit" else 1
    rows = ways * size * (dp - 1) // dp
    columns = ways * size * (tp - 1) // tp
    if replicated:
        columns = dp * (size // dp) * (tp - 1) if route == "edit" else 0
    return rows + columns + ways * size * (pp - 1) // pp
