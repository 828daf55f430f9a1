"""Sealed shared memory of one job, the worker's side: 64 KiB reserved | in zone | out zone.

The seals keep the job from shrinking it under the worker (SIGBUS). What is taken out is always copied first.
Not here: the job's side (job/arena.py).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from math import prod
from typing import Final

import torch
from torch import Tensor

from patchbay_worker.errors import error
from patchbay_worker.sandbox.linux import populate
from patchbay_worker.sandbox.wire.dtypes import CODE
from patchbay_worker.sandbox.wire.layout import IN_OFFSET, READY_BYTES, arena_bytes_for, zone_bytes
from patchbay_worker.sandbox.wire.message import TensorRecord, WireError

F_ADD_SEALS: Final = 1033
SEALS: Final = 0x1 | 0x2 | 0x4  # SEAL (no further seals), SHRINK, GROW
ALIGN: Final = 64
VIEWS: Final = 16


class Arena:
    def __init__(self, size: int) -> None:
        self.size = size
        self.zone = zone_bytes(size)
        self.fd = os.memfd_create("patchbay-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, F_ADD_SEALS, SEALS)
        self._map = mmap.mmap(self.fd, size)
        self._views: dict[TensorRecord, Tensor] = {}

    @classmethod
    def ready(cls, size: int) -> Arena:
        """One whose first pages are there already: they cost ten times as much as what is copied into them."""
        arena = cls(size)
        populate(arena._map, IN_OFFSET, min(arena.zone, READY_BYTES))
        return arena

    @staticmethod
    def size_for(tensor_bytes: int, minimum: int, maximum: int) -> int:
        """Arena for tensors of `tensor_bytes`; raises PB_LIMIT_EXCEEDED beyond `maximum`."""
        size = max(minimum, arena_bytes_for(tensor_bytes))
        if size > maximum:
            raise _too_large(tensor_bytes, zone_bytes(maximum))
        return size

    def put(self, tensor: Tensor, after: int = 0) -> TensorRecord:
        """Copies a tensor of any device and layout into the in zone, `after` bytes from its start."""
        record = TensorRecord(tensor.dtype, tuple(tensor.shape), IN_OFFSET + _aligned(after))
        if record.dtype not in CODE:
            raise error("PB_LIMIT_EXCEEDED", what="dtype of an edited tensor", limit="safetensors", actual=tensor.dtype)
        size = tensor.nbytes
        end = record.offset - IN_OFFSET + size
        if end > self.zone:
            raise _too_large(end, self.zone)
        if size:
            self._view(record).copy_(tensor.detach() if tensor.requires_grad else tensor)
        return record

    def put_bytes(self, data: bytes, after: int = 0) -> TensorRecord:
        """Copies bytes into the in zone, `after` bytes from its start."""
        record = TensorRecord(torch.uint8, (len(data),), IN_OFFSET + _aligned(after))
        end = record.offset - IN_OFFSET + len(data)
        if end > self.zone:
            raise _too_large(end, self.zone)
        self._map[record.offset : record.offset + len(data)] = data
        return record

    def take(self, record: TensorRecord) -> Tensor:
        """A private copy. The job may write while we copy: the numbers may be torn, never the memory."""
        if record.offset < IN_OFFSET:
            raise WireError("tensor in the reserved part")
        if not record.nbytes:
            return torch.empty(record.shape, dtype=record.dtype)
        if record.dtype is torch.bool:
            # Bytes other than 0 and 1 are undefined behaviour in a bool tensor; the job may have written them.
            return self._view(record._replace(dtype=torch.uint8)).ne(0)
        return self._view(record).clone()

    def take_into(self, record: TensorRecord, target: Tensor, at: int) -> None:
        """Copies a run of bytes to position `at` of a flat uint8 tensor."""
        if record.offset < IN_OFFSET or record.dtype is not torch.uint8 or len(record.shape) != 1:
            raise WireError("not a run of bytes")
        if record.nbytes:
            target[at : at + record.nbytes].copy_(self._view(record))

    def _view(self, record: TensorRecord) -> Tensor:
        """Kept: calls are mostly of a few shapes, and to make a view costs more than to copy a small tensor."""
        view = self._views.get(record)
        if view is None:
            flat = torch.frombuffer(self._map, dtype=record.dtype, count=prod(record.shape), offset=record.offset)
            if len(self._views) >= VIEWS:
                self._views.clear()
            view = self._views[record] = flat.view(record.shape)
        return view

    def close(self) -> None:
        """Forgets the memory; it goes when the last view and the job are gone."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._views.clear()


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN


def _too_large(actual: int, limit: int) -> Exception:
    return error("PB_LIMIT_EXCEEDED", what="bytes of a tensor for an edit", limit=limit, actual=actual)
