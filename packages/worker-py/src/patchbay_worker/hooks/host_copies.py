"""Captures on their way to the memory of the host. From a GPU they go to pinned memory on a stream of their own, and
the model goes on meanwhile; on the CPU they are there. Not here: which values are captured (capture.py).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

MAX_PINNED: Final = 1 << 30
"""Bytes under way at one time. Pinned memory is taken from the whole machine; what is more goes the slower way."""


class HostCopies:
    """Of one run, used by the job thread. Not run on a GPU yet (docs/gpu.md)."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None
        self._pinned = 0

    def start(self, value: Tensor, *, owned: bool) -> Tensor:
        """A copy on the host, whole once `wait` has returned. `owned` values are nobody else's: on the CPU they need no
        copy, on a GPU none that the model could write into meanwhile.
        """
        value = value.detach()
        if value.device.type == "cpu":
            return value if owned else value.clone()
        if not value.is_cuda or self._pinned + value.nbytes > MAX_PINNED:
            return value.cpu()
        return self._copy_beside(value if owned else value.clone())

    def _copy_beside(self, value: Tensor) -> Tensor:
        if self._stream is None:
            self._stream = torch.cuda.Stream(value.device)  # type: ignore[no-untyped-call] # torch's
        self._stream.wait_stream(torch.cuda.current_stream(value.device))
        self._pinned += value.nbytes
        with torch.cuda.stream(self._stream):
            host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            host.copy_(value, non_blocking=True)
        value.record_stream(self._stream)  # its memory is not given to others before the copy has ended
        return host

    def wait(self) -> None:
        """Until all copies are whole."""
        if self._stream is not None:
            self._stream.synchronize()
        self._pinned = 0
