"""stdout and stderr of user code: to a pipe, at most so many bytes, never an exception; and the line that runs, when
the worker asks for it before it kills. Not here: reading them.
"""

from __future__ import annotations

import faulthandler
import io
import os
import sys
from contextlib import suppress
from typing import Any, Final

from patchbay_worker.sandbox.wire.control import ASK

_streams: Final[list[io.TextIOWrapper]] = []


class BoundedLog(io.RawIOBase):
    """Writes up to `limit` bytes to a descriptor and drops the rest, saying so once."""

    def __init__(self, fd: int, limit: int) -> None:
        self._fd = fd
        self._left = limit

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raw = bytes(data)
        kept = raw[: self._left]
        if kept:
            self._left -= len(kept)
            if len(kept) < len(raw):
                self._left = 0
                kept += b"\n[log cut here]\n"
            try:
                os.write(self._fd, kept)
            except OSError:  # the worker has closed its end: the rest is dropped
                self._left = 0
        return len(raw)


def redirect_output(fd: int, limit: int) -> None:
    """Makes sys.stdout and sys.stderr one bounded log."""
    raw = BoundedLog(fd, limit)
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.stdout = sys.stderr = stream
    sys.__stdout__ = sys.__stderr__ = stream  # type: ignore[misc]
    _streams.append(stream)


def tell_where(fd: int) -> None:
    """The interpreter's own handler writes the stack, also where the code never comes back to Python. User code may
    undo it; then nothing is said.
    """
    faulthandler.register(ASK, file=fd, all_threads=False)


def flush_output() -> None:
    """Sends what has been printed; user code may have closed the log, or put something else in its place."""
    for stream in _streams:
        with suppress(ValueError):
            stream.flush()
