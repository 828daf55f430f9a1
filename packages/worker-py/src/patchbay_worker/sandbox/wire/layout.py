"""How an arena is divided: 64 KiB reserved | in zone | out zone. One home for both sides; holds no memory."""

from __future__ import annotations

import mmap
from typing import Final

PAGE: Final = mmap.PAGESIZE
IN_OFFSET: Final = 64 << 10
BODY_ROOM: Final = 1 << 20
"""Kept free in a zone beside the largest tensor, for JSON that does not fit in a message."""
READY_BYTES: Final = 1 << 20
"""Of the in zone, made ready before a job begins: most tensors of an edit are no larger."""


def zone_bytes(size: int) -> int:
    """Size of the in zone and of the out zone of an arena of `size` bytes."""
    return (size - IN_OFFSET) // 2 // PAGE * PAGE


def out_offset(size: int) -> int:
    return IN_OFFSET + zone_bytes(size)


def pages(nbytes: int) -> int:
    """`nbytes` rounded up to whole pages."""
    return -(-nbytes // PAGE) * PAGE


def arena_bytes_for(tensor_bytes: int) -> int:
    """The arena whose zones hold a tensor of `tensor_bytes`."""
    return IN_OFFSET + 2 * pages(tensor_bytes + BODY_ROOM)
