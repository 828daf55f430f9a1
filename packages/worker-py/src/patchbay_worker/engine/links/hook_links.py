"""Who connects to whom for the tensors of edits: in every group of an axis the others come to the root and say their
place. Not here: how they find it (meeting.py), what moves (sharding/links.py).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from patchbay_worker.engine.links.meeting import CONNECT_S, Meeting, join
from patchbay_worker.sharding.links import Links

PLACE_BYTES: Final = 4

Share = Callable[[bytes | None, int], bytes]
"""(data, rank) -> the data of that rank of the world, on all of them."""


def link(groups: list[list[int]], rank: int, share: Share, host: str, timeout_s: float) -> Links | None:
    """This rank's links in its own of `groups`, which are all of one axis; None in a group of one. Every rank calls it
    with the same groups, and with the address of its own at which the others reach it.
    """
    own = next(ranks for ranks in groups if rank in ranks)
    meeting = Meeting(host) if rank == own[0] and len(own) > 1 else None
    told = b""
    for ranks in groups:
        if len(ranks) > 1:
            data = share(meeting.invitation() if meeting is not None and ranks is own else None, ranks[0])
            told = data if ranks is own else told
    if len(own) == 1:
        return None
    if meeting is not None:
        return Links(own, {_place_of(each): each for each in meeting.admit(len(own) - 1)}, timeout_s)
    root = join(told)
    root.sendall(own.index(rank).to_bytes(PLACE_BYTES, "little"))
    return Links(own, {0: root}, timeout_s)


def _place_of(connection: socket.socket) -> int:
    connection.settimeout(CONNECT_S)
    said = b""
    while len(said) < PLACE_BYTES:
        more = connection.recv(PLACE_BYTES - len(said))
        if not more:
            raise ConnectionResetError("a rank of the group has gone again")
        said += more
    return int.from_bytes(said, "little")


def address_towards(host: str, port: int) -> str:
    """The address of this machine that it uses towards another one; nothing is sent."""
    family, kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])
