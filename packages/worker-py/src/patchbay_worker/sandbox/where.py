"""Reads what a job has said of its stack (job/log.py). It is user code's word: bounded, and for messages only."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from patchbay_worker.sandbox.wire.text import plain_text

HEAD: Final = b"Stack (most recent call first):\n"
LAST: Final = b"in <module>\n"
FRAME: Final = re.compile(rb'  File "(<(?:hook|module) [^"\n]{1,150}>)", line (\d{1,7}) in ([^\n]{1,150})\n')
FRAMES: Final = 30
CHARS: Final = 4000


class Stack(NamedTuple):
    """Where it begins in the log, and whether all of it is there."""

    start: int
    whole: bool
    remote: dict[str, Any] | None


def stack_in(log: bytes | bytearray, mark: int) -> Stack | None:
    """The first stack after `mark`; `remote` is None when no user code is on it."""
    start = log.find(HEAD, mark)
    if start < 0:
        return None
    frames = FRAME.findall(log, start)[:FRAMES]
    lines = [
        f'  File "{file.decode("utf-8", "replace")}", line {int(line)}, in {name.decode("utf-8", "replace")}'
        for file, line, name in reversed(frames)
    ]
    text = plain_text("\n".join(["Traceback (most recent call last):", *lines]), CHARS)
    remote = {"type": "Timeout", "traceback": text, "line": int(frames[0][1])} if frames else None
    return Stack(start, log.endswith(LAST), remote)
