"""Carries artifacts between a rank and the artifact store over one kept-alive HTTP connection, and proves by SHA-256
that what arrived is what was meant. Not here: what the bytes mean, who may see them (the ticket says that).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import select
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from patchbay_worker.errors import PatchbayError, catalogue, error

_ATTEMPTS: Final = 3
_TIMEOUT_S: Final = 60.0
#: A store that is silent for as long as this, or does not take a byte, is asked again over another connection.
_DEAD_S: Final = 10
_CHUNK_BYTES: Final = 1 << 16
_PREFIX: Final = "sha256:"


def digest(data: bytes) -> str:
    """Hex SHA-256: the name of an artifact. Documents write it with `sha256:` before it."""
    return hashlib.sha256(data).hexdigest()


class ArtifactStore:
    """The store as one thread of a rank sees it, job after job."""

    def __init__(self, url: str = "", ticket: str = "") -> None:
        self.url = url
        self._ticket = ticket
        self._connection: http.client.HTTPConnection | None = None

    def use(self, url: str, ticket: str) -> None:
        """Goes on with another attempt's ticket, which lets it read inputs and write results of that attempt."""
        if url != self.url:
            self.close()
        self.url = url
        self._ticket = ticket

    def put(self, data: bytes) -> str:
        """Stores the bytes and returns their digest. Storing the same bytes twice is no error."""
        sha256 = digest(data)
        status, body = self._request("PUT", sha256, data)
        if status not in (200, 201, 204):
            raise self._refusal(sha256, status, body)
        return sha256

    def get(self, reference: str) -> bytes:
        """The bytes of `sha256:<hex>`. Raises PB_ARTIFACT_NOT_FOUND, PB_ARTIFACT_CORRUPT."""
        sha256 = reference.removeprefix(_PREFIX)
        status, body = self._request("GET", sha256, None)
        if status == 404:
            raise error("PB_ARTIFACT_NOT_FOUND", artifact=_PREFIX + sha256)
        if status != 200:
            raise self._refusal(sha256, status, body)
        if digest(body) != sha256:
            raise error(
                "PB_ARTIFACT_CORRUPT", artifact=_PREFIX + sha256, reason=f"its content has the digest {digest(body)}"
            )
        return body

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(self, method: str, sha256: str, data: bytes | None) -> tuple[int, bytes]:
        path = f"{urlsplit(self.url).path.rstrip('/')}/api/artifacts/{sha256}"
        headers = {"authorization": f"Bearer {self._ticket}"}
        if data is not None:
            headers["content-type"] = "application/octet-stream"
            headers["content-length"] = str(len(data))
        problem: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                connection = self._connect()
                body = None if data is None else _Body(connection.sock, data)
                connection.request(method, path, body=body, headers=headers)
                response = connection.getresponse()
                answer = response.status, response.read()
                if body is not None and not body.complete:
                    self.close()
                return answer
            except (OSError, http.client.HTTPException) as failure:
                # Also an idle connection that the server closed; both methods may be repeated safely.
                problem = failure
                self.close()
        raise error("PB_ORCHESTRATOR_UNAVAILABLE", url=self.url, reason=f"{type(problem).__name__}: {problem}")

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self.url)
            if parts.hostname is None:
                raise error("PB_CONFIG_INVALID", reason=f'PATCHBAY_ARTIFACT_URL "{self.url}" is no http address')
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)
            self._connection.connect()
            _notice_silence(self._connection.sock)
        return self._connection

    def _refusal(self, sha256: str, status: int, body: bytes) -> PatchbayError:
        """The store's own typed error where it sent one."""
        try:
            sent = json.loads(body)
            if sent["code"] in catalogue():
                return PatchbayError.from_json(sent)
        except (ValueError, TypeError, KeyError):
            pass
        if status in (401, 403):
            return error("PB_UNAUTHORIZED")
        if status in (400, 409, 422):
            return error("PB_ARTIFACT_CORRUPT", artifact=_PREFIX + sha256, reason=f"the store answered {status}")
        return error("PB_ORCHESTRATOR_UNAVAILABLE", url=self.url, reason=f"it answered {status}")


class _Body:
    """The bytes of a PUT, until the store answers or hangs up before it has them all: otherwise a store that is gone
    while its side of the connection is not would be waited for, and an early refusal not be read.
    """

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self._sock = sock
        self._data = memoryview(data)
        self.complete = False

    def __iter__(self) -> Iterator[memoryview]:
        for start in range(0, len(self._data), _CHUNK_BYTES):
            if self._is_answered():
                return
            yield self._data[start : start + _CHUNK_BYTES]
        self.complete = True

    def _is_answered(self) -> bool:
        if isinstance(self._sock, ssl.SSLSocket):
            return False  # what is readable may be TLS's own
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLOUT)
        events = poll.poll(_TIMEOUT_S * 1000)
        if not events:
            raise TimeoutError("the store took no byte")
        return bool(events[0][1] & ~select.POLLOUT)


def _notice_silence(sock: socket.socket) -> None:
    """A link that is cut says nothing: the kernel has to ask."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    limits = {"TCP_USER_TIMEOUT": _DEAD_S * 1000, "TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
    for name, value in limits.items():
        if hasattr(socket, name):  # not everywhere
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
