"""Waiting for what is about to come. Not here: how long it is waited for after that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

_T = TypeVar("_T")

SPIN_S: Final = 100e-6
"""To go to sleep and be woken up takes 40 us and more here; what comes sooner than this is better waited for awake."""


def soon(read: Callable[[], _T], limit_s: float = SPIN_S) -> _T | None:
    """What `read` gives, once it does not raise BlockingIOError; None when it does for the whole time. It is
    tried once in any case. Whoever else wants the core gets it.
    """
    until = time.monotonic() + limit_s
    while True:
        try:
            return read()
        except BlockingIOError:
            if time.monotonic() >= until:
                return None
            os.sched_yield()
