"""Lets in whoever shows a token as the first bytes of a connection. Not here: what is said after that (edit_links.py).

A stranger may connect as well: what is kept of one is no longer than the token, for a moment, and of few at a time.
"""

from __future__ import annotations

import hmac
import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

SHOW_S: Final = 2.0
"""For the token, once connected."""
MOST: Final = 64
"""Connections without a token yet; one more, and the oldest has to go: ours shows its token at once."""


@dataclass
class _Stranger:
    until: float
    shown: bytes = b""


class Door:
    """Used by one thread."""

    def __init__(self, listener: socket.socket, token: bytes) -> None:
        self._listener = listener
        self._token = token
        self._strangers: dict[socket.socket, _Stranger] = {}
        self._selector = selectors.DefaultSelector()

    def admit(self, count: int, timeout_s: float) -> list[socket.socket]:
        """So many connections that have shown the token; TimeoutError when they do not come in time."""
        deadline = time.monotonic() + timeout_s
        admitted: list[socket.socket] = []
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        try:
            while len(admitted) < count:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{len(admitted)} of {count} connections have shown the token")
                for key, _ in self._selector.select(self._pause(deadline)):
                    if key.fileobj is self._listener:
                        self._meet()
                    elif isinstance(key.fileobj, socket.socket) and self._hear(key.fileobj):
                        admitted.append(key.fileobj)
                self._send_away()
        except BaseException:
            for each in admitted:
                each.close()
            raise
        finally:
            for each in list(self._strangers):
                self._forget(each).close()
            self._selector.close()
        return admitted

    def _pause(self, deadline: float) -> float:
        first = min((each.until for each in self._strangers.values()), default=deadline)
        return max(0.0, min(first, deadline) - time.monotonic())

    def _meet(self) -> None:
        with suppress(OSError):  # it may be gone again
            connection, _ = self._listener.accept()
            if len(self._strangers) >= MOST:
                self._forget(next(iter(self._strangers))).close()
            connection.setblocking(False)
            self._strangers[connection] = _Stranger(time.monotonic() + SHOW_S)
            self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket) -> bool:
        """Whether it is ours; whoever says something else is sent away once it is as long as the token."""
        stranger = self._strangers.get(connection)
        if stranger is None:  # the oldest, which has just made room
            return False
        try:
            said = connection.recv(len(self._token) - len(stranger.shown))
        except BlockingIOError:
            return False
        except OSError:
            said = b""
        stranger.shown += said
        if said and len(stranger.shown) < len(self._token):
            return False
        self._forget(connection)
        if hmac.compare_digest(stranger.shown, self._token):
            connection.setblocking(True)
            return True
        connection.close()
        return False

    def _send_away(self) -> None:
        now = time.monotonic()
        for connection in [each for each, stranger in self._strangers.items() if stranger.until <= now]:
            self._forget(connection).close()

    def _forget(self, connection: socket.socket) -> socket.socket:
        del self._strangers[connection]
        self._selector.unregister(connection)
        return connection
