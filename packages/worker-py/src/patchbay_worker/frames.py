"""Frames over TCP between processes of one gang: 4 bytes length of the header, 4 bytes length of the body (little
endian), header as JSON, body as it is. Used by both sides. Not here: what a frame means.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

_LENGTHS: Final = "<II"
_LENGTHS_BYTES: Final = 8
MAX_HEADER_BYTES: Final = 1 << 16
MAX_BODY_BYTES: Final = 256 << 20


class BrokenFrame(Exception):
    """The other side does not speak this protocol; the connection is of no use any more."""


@dataclass(frozen=True, slots=True)
class Frame:
    """`fields` is the header besides its type."""

    type: str
    fields: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""

    def encode(self) -> bytes:
        header = json.dumps({"type": self.type, **self.fields}, separators=(",", ":")).encode()
        return struct.pack(_LENGTHS, len(header), len(self.body)) + header + self.body


class FrameParser:
    """Cuts a stream of bytes into frames. `limit` bounds a body, and with it what a stranger can make us keep."""

    def __init__(self, limit: int = MAX_BODY_BYTES) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._buffer += data
        frames: list[Frame] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        if len(self._buffer) < _LENGTHS_BYTES:
            return None
        header_bytes, body_bytes = struct.unpack_from(_LENGTHS, self._buffer)
        if header_bytes > MAX_HEADER_BYTES or body_bytes > self.limit:
            raise BrokenFrame(f"a frame of {header_bytes} + {body_bytes} bytes")
        end = _LENGTHS_BYTES + header_bytes + body_bytes
        if len(self._buffer) < end:
            return None
        header = bytes(self._buffer[_LENGTHS_BYTES : _LENGTHS_BYTES + header_bytes])
        body = bytes(self._buffer[_LENGTHS_BYTES + header_bytes : end])
        del self._buffer[:end]
        return _frame(header, body)


def _frame(header: bytes, body: bytes) -> Frame:
    try:
        fields = json.loads(header)
        return Frame(str(fields.pop("type")), fields, body)
    except (ValueError, KeyError, AttributeError, TypeError) as problem:
        raise BrokenFrame(f"an unreadable header: {problem}") from None


class FrameSocket:
    """A rank's end: blocking, any thread may send, one thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._sending = threading.Lock()
        self._parser = FrameParser()
        self._received: deque[Frame] = deque()

    def send(self, frame: Frame) -> None:
        data = frame.encode()
        with self._sending:
            self._socket.sendall(data)

    def receive(self) -> Frame | None:
        """None at the end of the stream. Raises TimeoutError after the socket's time-out."""
        while not self._received:
            data = self._socket.recv(1 << 16)
            if not data:
                return None
            self._received.extend(self._parser.feed(data))
        return self._received.popleft()

    def close(self) -> None:
        self._socket.close()
