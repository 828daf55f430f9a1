"""Tensors over links, without a model: every dtype and shape, three ranks, and every way in which a link can end."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.engine.links.hook_links import address_towards, link
from patchbay_worker.sandbox.wire.dtypes import DTYPES
from patchbay_worker.sharding.collectives import (
    ALONE,
    HookGroup,
    HookMesh,
    ShardDims,
    gather_to_root,
    scatter_from_root,
)
from patchbay_worker.sharding.links import HEADER, LinkBroken, Links

SHAPES = [(), (0,), (3, 0, 2), (1,), (2, 3, 4), (7, 1 << 18)]  # the last one is more than a socket buffers


def pair(timeout_s: float = 10) -> tuple[Links, Links]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = socket.create_connection(listener.getsockname())
        root, _ = listener.accept()
    return Links([4, 6], {1: root}, timeout_s), Links([4, 6], {0: other}, timeout_s)


def filled(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    count = torch.empty(shape, dtype=dtype).nbytes
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (count,), dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_tensor_arrives_bit_by_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    root, other = pair()
    value = filled(shape, dtype)
    sending = threading.Thread(target=other.send, args=(value, 0))
    sending.start()
    got = root.receive(torch.empty_like(value), 1)
    sending.join(10)
    assert got.dtype == dtype
    assert got.shape == shape
    assert torch.equal(got.reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))
    for each in (root, other):
        each.close()


def test_a_size_that_was_not_expected_is_no_tensor() -> None:
    root, other = pair()
    other.send(torch.zeros(3), 0)
    with pytest.raises(LinkBroken, match="rank 6 has sent 12 bytes where 16 were expected"):
        root.receive(torch.zeros(4), 1)


def test_who_waits_hears_of_the_end_of_its_peer() -> None:
    root, other = pair()
    other.send(torch.zeros(1), 0)
    other.close()
    assert root.receive(torch.ones(1), 1) == 0, "what was sent before is there"
    with pytest.raises(LinkBroken, match="connection to rank 6 broke"):
        root.receive(torch.ones(1), 1)
    with pytest.raises(LinkBroken, match="connection to rank 6 broke"):
        root.send(torch.zeros(64 << 20, dtype=torch.uint8), 1)


def test_a_peer_that_does_nothing_is_not_waited_for_for_ever() -> None:
    root, other = pair(timeout_s=0.2)
    with pytest.raises(LinkBroken, match="nothing for 0"):
        root.receive(torch.ones(1), 1)
    with pytest.raises(LinkBroken, match="nothing for 0"):
        root.send(torch.zeros(64 << 20, dtype=torch.uint8), 1)
    other.close()


def test_half_a_tensor_is_none() -> None:
    root, other = pair()
    connection = next(iter(other._connections.values()))
    connection.send(HEADER.pack(8) + b"1234")
    other.close()
    with pytest.raises(LinkBroken, match="it was closed"):
        root.receive(torch.ones(2), 1)


class Trickle:
    """A connection that takes and gives three bytes at a time, as a full one may."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.calls = 0
        self.messages = 0

    def send(self, data: memoryview) -> int:
        self.calls += 1
        return self._inner.send(data[:3])

    def sendmsg(self, parts: list[memoryview]) -> int:
        """Ends within the first part or the second, in turns."""
        self.calls += 1
        self.messages += 1
        return self._inner.send(b"".join(parts)[: 3 if self.messages % 2 else len(parts[0]) + 3])

    def recv_into(self, target: memoryview) -> int:
        self.calls += 1
        return self._inner.recv_into(target[:3])


def test_a_tensor_in_pieces_smaller_than_its_length() -> None:
    root, other = pair()
    slow = [Trickle(root._connections[1]), Trickle(other._connections[0])]
    root._connections[1], other._connections[0] = slow  # type: ignore[assignment] # what Links uses of a socket
    for shape in ((9,), (9,), (0,), (1,)):
        value = torch.randn(shape)
        other.send(value, 0)
        assert torch.equal(root.receive(torch.empty_like(value), 1), value)
    assert all(each.calls > 10 for each in slow)


@pytest.mark.parametrize("announced", [True, False])
def test_who_sleeps_wakes_up_for_a_tensor(announced: bool) -> None:
    root, other = pair()
    value = torch.randn(1000)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            waiting = pool.submit(other.receive, torch.empty_like(value), 0, asleep=True)
            if announced:
                root.announce(value.nbytes, 1)
            root.send(value, 1)
            assert torch.equal(waiting.result(10), value)
    root.announce(8, 1)
    root.send(value, 1)
    with pytest.raises(LinkBroken, match="8 bytes where 4000 were expected"):
        other.receive(torch.empty_like(value), 0)


class Board:
    """What ranks in threads tell each other, as a world's `share_bytes` does."""

    def __init__(self, size: int) -> None:
        self._queues = [queue.SimpleQueue[bytes]() for _ in range(size)]

    def share(self, rank: int) -> Callable[[bytes | None, int], bytes]:
        def share(data: bytes | None, source: int) -> bytes:
            if rank != source:
                return self._queues[rank].get(timeout=10)
            assert data is not None
            for other, each in enumerate(self._queues):
                if other != source:
                    each.put(data)
            return data

        return share


def linked(groups: list[list[int]]) -> list[HookGroup]:
    """One group per rank of the world."""
    ranks = sorted(rank for group in groups for rank in group)
    board = Board(len(ranks))
    with ThreadPoolExecutor(len(ranks)) as pool:
        made = list(pool.map(lambda rank: link(groups, rank, board.share(rank), "127.0.0.1", 10.0), ranks))
    found = []
    for rank, links in zip(ranks, made, strict=True):
        own = next(group for group in groups if rank in group)
        found.append(HookGroup(None, own.index(rank), len(own), links))
    return found


def on_all(groups: list[HookGroup], action: Callable[[HookMesh], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(groups)) as pool:
        return list(pool.map(lambda group: action(HookMesh(group, ALONE)), groups))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_parts_of_three_ranks_come_together_and_go_back(dim: int) -> None:
    groups = linked([[0, 1, 2]])
    full = torch.randn(3, 6, 9)
    parts, dims = full.chunk(3, dim), ShardDims(tp=dim)
    done: list[int] = []

    def there_and_back(mesh: HookMesh) -> tuple[Tensor | None, Tensor]:
        own = parts[mesh.tp.rank]
        whole = gather_to_root(own, dims, mesh)
        edited = whole * 2 if whole is not None else None
        return whole, scatter_from_root(edited, own, dims, mesh, lambda: done.append(mesh.tp.rank))

    found = on_all(groups, there_and_back)
    assert torch.equal(found[0][0], full)
    assert [whole for whole, _ in found[1:]] == [None, None]
    for (_, result), part in zip(found, parts, strict=True):
        assert torch.equal(result, part * 2)
    assert sorted(done) == [0, 1, 2], "once on each"


def test_groups_of_an_axis_do_not_hear_each_other() -> None:
    first, second = (linked([[0, 2], [1, 3]])[place::2] for place in (0, 1))

    def spread(value: float) -> Callable[[HookMesh], Tensor]:
        full = torch.full((2,), value)
        return lambda mesh: scatter_from_root(full if mesh.is_root else None, torch.zeros(2), ShardDims(), mesh)

    assert [found.tolist() for found in on_all(first, spread(1.0))] == [[1.0, 1.0]] * 2
    assert [found.tolist() for found in on_all(second, spread(2.0))] == [[2.0, 2.0]] * 2


def test_a_rank_alone_has_no_links() -> None:
    assert [group.links for group in linked([[0], [1]])] == [None, None]


def test_the_address_towards_this_machine_is_on_it() -> None:
    assert address_towards("127.0.0.1", 9) == "127.0.0.1"
    assert address_towards("localhost", 9) in ("127.0.0.1", "::1")
