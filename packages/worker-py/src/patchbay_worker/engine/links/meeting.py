"""How ranks find one of them that listens: it tells its address and a token through the world, and the others come with
that token. Not here: what they say then (hook_links.py, pipeline/edit_links.py).
"""

from __future__ import annotations

import json
import secrets
import socket
from typing import Final

from patchbay_worker.engine.links.door import Door

CONNECT_S: Final = 60.0


class Meeting:
    """The end that listens, until all have come or it is closed."""

    def __init__(self, host: str) -> None:
        self._token = secrets.token_urlsafe(24)
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)

    def invitation(self) -> bytes:
        """For `join`."""
        host, port = self._listener.getsockname()[:2]
        return json.dumps({"host": host, "port": port, "token": self._token}).encode()

    def admit(self, count: int) -> list[socket.socket]:
        """So many that were invited; then nobody can come any more."""
        with self._listener:
            return Door(self._listener, self._token.encode()).admit(count, CONNECT_S)


def join(invitation: bytes) -> socket.socket:
    """A connection that has shown its token."""
    told = json.loads(invitation)
    connection = socket.create_connection((told["host"], told["port"]), timeout=CONNECT_S)
    connection.sendall(told["token"].encode())
    return connection
