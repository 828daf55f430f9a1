"""The arena as a job process sees it: inputs are views of shared memory, results are placed there.

An edit may change its input in place: it is the job's own copy. It may also keep it (`save_ctx.x = inputs`); then the
next input must not overwrite it, so memory that is still referenced is made private before the reply goes out.
"""

from __future__ import annotations

import os
import sys
from math import prod

import torch
from torch import Tensor

from patchbay_worker.sandbox.linux import SharedMapping, replace_by_private_memory
from patchbay_worker.sandbox.wire.layout import IN_OFFSET, READY_BYTES, out_offset, pages, zone_bytes
from patchbay_worker.sandbox.wire.message import TensorRecord, WireError

# References to an input's storage that are ours: the wrapper that we hold in `_storage`.
OWN_USES = 1
OWN_REFERENCES = 2  # `_storage` and the argument of getrefcount


class JobArena:
    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.zone = zone_bytes(size)
        self._out_offset = out_offset(size)
        self._out = SharedMapping(fd, self.zone, self._out_offset)
        self._in: SharedMapping | None = SharedMapping(fd, pages(min(self.zone, READY_BYTES)), IN_OFFSET)
        self._storage: torch.UntypedStorage | None = None
        self._used = 0

    def read_bytes(self, record: TensorRecord) -> bytes:
        return os.pread(self._fd, record.nbytes, record.offset)

    def input(self, record: TensorRecord) -> Tensor:
        """The tensor at the start of the in zone, without a copy."""
        dtype, shape, offset = record
        if offset != IN_OFFSET:
            raise WireError("an input lies at the start of the in zone")
        count = prod(shape)
        if not count:
            self._storage = None
            return torch.empty(shape, dtype=dtype)
        self._used = count * dtype.itemsize
        if self._in is None or self._in.length < self._used:
            self._in = SharedMapping(self._fd, pages(self._used), IN_OFFSET)
        tensor = torch.frombuffer(self._in.buffer, dtype=dtype, count=count).view(shape)
        self._storage = tensor.untyped_storage()
        return tensor

    def settle(self) -> None:
        """Call when our own references to the last input are gone: keeps it intact if user code still holds it."""
        if self._storage is not None and self._in is not None and self._held():
            address = self._storage.data_ptr()
            mapped = torch.frombuffer(self._in.buffer, dtype=torch.uint8, count=self._used)
            kept = mapped.clone()
            replace_by_private_memory(address, pages(self._used))
            mapped.copy_(kept)
            self._in = None  # the old mapping lives as long as the tensors that user code keeps
        self._storage = None

    def place(self, tensor: Tensor) -> TensorRecord:
        """Where the worker finds this value: in the in zone if it is the input itself or nobody holds that any more,
        since those pages are there and warm; else in the out zone.
        """
        shape = tuple(tensor.shape)
        record = TensorRecord(tensor.dtype, shape, IN_OFFSET)
        if self._is_input(tensor):
            return record
        zone = self._in
        if zone is None or self._storage is None or record.nbytes > self._used or self._held():
            zone, record = self._out, record._replace(offset=self._out_offset)
        if record.nbytes > self.zone:
            raise WireError("result larger than the out zone")
        if record.nbytes:
            torch.frombuffer(zone.buffer, dtype=tensor.dtype, count=tensor.numel()).view(shape).copy_(tensor)
        return record

    def _held(self) -> bool:
        """Whether anyone else has the last input's memory."""
        assert self._storage is not None
        uses: int = torch._C._storage_Use_Count(self._storage._cdata)
        return uses > OWN_USES or sys.getrefcount(self._storage) > OWN_REFERENCES

    def _is_input(self, tensor: Tensor) -> bool:
        return (
            self._storage is not None
            and tensor.data_ptr() == self._storage.data_ptr()
            and tensor.is_contiguous()
            and not tensor.is_conj()
            and not tensor.is_neg()
        )
