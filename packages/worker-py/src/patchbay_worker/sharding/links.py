"""Tensors between the root of a group and its other ranks, over connections of their own: for tensors of the CPU. A
gather by gloo hands each part to a thread of its own on both sides, and that costs more than to move 0.5 MB: 0.75 ms,
and 0.25 this way. Not here: who connects to whom (engine/links/hook_links.py), what moves when (collectives.py).
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor

from patchbay_worker.spin import soon

HEADER: Final = struct.Struct("<Q")  # bytes of the tensor


class LinkBroken(Exception):
    """Ranks of one group no longer do the same, or one of them is gone: the gang is lost."""


class Links:
    """One rank's connections, by place in the group: the root's to all others, theirs to the root. Used by the job
    thread, which sends and receives in the order of the plan that all ranks have.
    """

    def __init__(self, ranks: list[int], connections: Mapping[int, socket.socket], timeout_s: float) -> None:
        """`ranks` are those of the world, for messages. `timeout_s` is how long a peer may do nothing at all."""
        self.ranks = ranks
        self._timeout_s = timeout_s
        self._connections = dict(connections)
        self._announced: set[int] = set()
        for each in self._connections.values():
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def announce(self, size: int, to: int) -> None:
        """The bytes of what `send` sends next: who waits for it asleep is awake by then. Raises LinkBroken."""
        self._send(memoryview(HEADER.pack(size)), to)
        self._announced.add(to)

    def send(self, value: Tensor, to: int) -> None:
        """All of a contiguous tensor; returns when it is on its way. Raises LinkBroken."""
        body = _bytes_of(value)
        if to in self._announced:
            self._announced.remove(to)
            self._send(body, to)
        else:
            self._send_after(memoryview(HEADER.pack(len(body))), body, to)

    def receive(self, value: Tensor, source: int, *, asleep: bool = False) -> Tensor:
        """Fills a contiguous tensor, which has the size of what is sent, and gives it back. Raises LinkBroken. `asleep`
        leaves the core to others until it comes.
        """
        header, body = bytearray(HEADER.size), _bytes_of(value)
        try:
            if asleep:
                self._sleep(source, select.POLLIN)
            self._fill(memoryview(header), source)
            (size,) = HEADER.unpack(header)
            if size != len(body):
                rank = self.ranks[source]
                raise LinkBroken(f"rank {rank} has sent {size} bytes where {len(body)} were expected")
            self._fill(body, source)
        except OSError as problem:
            raise self._broken(source, problem) from problem
        return value

    def close(self) -> None:
        """Peers that wait for this rank hear of it."""
        for each in self._connections.values():
            each.close()

    def _send_after(self, header: memoryview, body: memoryview, to: int) -> None:
        """Both at once, for a call of its own costs as much as 0.2 MB."""
        connection = self._connections[to]
        try:
            sent = self._waiting(to, select.POLLOUT, partial(connection.sendmsg, [header, body]))
        except OSError as problem:
            raise self._broken(to, problem) from problem
        self._send(header[sent:], to)
        self._send(body[max(0, sent - len(header)) :], to)

    def _send(self, data: memoryview, to: int) -> None:
        connection = self._connections[to]
        try:
            while data:
                data = data[self._waiting(to, select.POLLOUT, partial(connection.send, data)) :]
        except OSError as problem:
            raise self._broken(to, problem) from problem

    def _fill(self, target: memoryview, source: int) -> None:
        connection = self._connections[source]
        while target:
            got = self._waiting(source, select.POLLIN, partial(connection.recv_into, target))
            if got == 0:
                raise ConnectionResetError("it was closed")
            target = target[got:]

    def _waiting(self, peer: int, event: int, move: Callable[[], int]) -> int:
        """What `move` gives, as soon as it can."""
        while (moved := soon(move)) is None:
            self._sleep(peer, event)
        return moved

    def _sleep(self, peer: int, event: int) -> None:
        poll = select.poll()
        poll.register(self._connections[peer], event)
        if not poll.poll(self._timeout_s * 1e3):
            raise TimeoutError(f"nothing for {self._timeout_s:g} s")

    def _broken(self, peer: int, problem: OSError) -> LinkBroken:
        return LinkBroken(f"the connection to rank {self.ranks[peer]} broke: {problem}")


def _bytes_of(value: Tensor) -> memoryview:
    return value.detach().reshape(-1).view(torch.uint8).numpy().data
