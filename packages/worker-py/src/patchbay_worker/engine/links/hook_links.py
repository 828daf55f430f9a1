"""Who connects to whom for the tensors of edits: in every group of an axis the root listens, and the others come with
the token that it has told them through the world. Not here: what moves (sharding/links.py).
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable
from typing import Final

from patchbay_worker.engine.links.door import Door
from patchbay_worker.sharding.links import Links

CONNECT_S: Final = 60.0
PLACE_BYTES: Final = 4

Share = Callable[[bytes | None, int], bytes]
"""(data, rank) -> the data of that rank of the world, on all of them."""


def link(groups: list[list[int]], rank: int, share: Share, host: str, timeout_s: float) -> Links | None:
    """This rank's links in its own of `groups`, which are all of one axis; None in a group of one. Every rank calls it
    with the same groups, and with the address of its own at which the others reach it.
    """
    own = next(ranks for ranks in groups if rank in ranks)
    meeting = _Meeting(host) if rank == own[0] and len(own) > 1 else None
    told = b""
    for ranks in groups:
        if len(ranks) > 1:
            data = share(meeting.invitation() if meeting is not None and ranks is own else None, ranks[0])
            told = data if ranks is own else told
    if len(own) == 1:
        return None
    connections = meeting.admit(len(own)) if meeting is not None else {0: _join(told, own.index(rank))}
    return Links(own, connections, timeout_s)


class _Meeting:
    """The root's end, until all have come."""

    def __init__(self, host: str) -> None:
        self._token = secrets.token_urlsafe(24)
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)

    def invitation(self) -> bytes:
        host, port = self._listener.getsockname()[:2]
        return json.dumps({"host": host, "port": port, "token": self._token}).encode()

    def admit(self, size: int) -> dict[int, socket.socket]:
        """By place in the group, which each says after the token."""
        with self._listener:
            came = Door(self._listener, self._token.encode()).admit(size - 1, CONNECT_S)
        return {_place_of(each): each for each in came}


def _place_of(connection: socket.socket) -> int:
    connection.settimeout(CONNECT_S)
    said = b""
    while len(said) < PLACE_BYTES:
        more = connection.recv(PLACE_BYTES - len(said))
        if not more:
            raise ConnectionResetError("a rank of the group has gone again")
        said += more
    return int.from_bytes(said, "little")


def _join(told: bytes, place: int) -> socket.socket:
    meeting = json.loads(told)
    connection = socket.create_connection((meeting["host"], meeting["port"]), timeout=CONNECT_S)
    connection.sendall(meeting["token"].encode() + place.to_bytes(PLACE_BYTES, "little"))
    return connection


def address_towards(host: str, port: int) -> str:
    """The address of this machine that it uses towards another one; nothing is sent."""
    family, kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])
