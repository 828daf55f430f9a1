"""Messages between a worker and its sandbox job: fixed header, tensor records, a little JSON; one SEQPACKET each.

The bytes of tensors are not in a message but in the arena. `decode` trusts nothing: the worker feeds it what user code
may have written. Not here: sending and waiting (client.py, job/server.py).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from math import prod
from typing import Any, Final, NamedTuple

import torch

from patchbay_worker.sandbox.wire.dtypes import CODE, DTYPES, ITEM_BYTES

MAGIC: Final = b"PBS1"
HEADER: Final = struct.Struct("<4sBBHQI")  # magic, kind, records, flags, nonce, bytes of JSON
RECORD: Final = struct.Struct("<BBHIQQ8q")  # dtype, dims, zero, zero, offset, bytes, sizes
MAX_RECORDS: Final = 16
MAX_DIMS: Final = 8
MAX_ELEMENTS: Final = 2**31 - 1
MAX_JSON: Final = 16 * 1024
MAX_MESSAGE: Final = HEADER.size + MAX_RECORDS * RECORD.size + MAX_JSON
HELLO: Final = b"PBS1 ready"
"""First packet of a job process: its set-up is done, it has read nothing yet."""

BODY_IN_ARENA: Final = 1
"""Flag of a request: its last record is the JSON, which was too long for the message."""


class Kind(IntEnum):
    """Requests go to the job, replies come from it."""

    START = 1
    SEED = 2
    MODULE = 3
    SOURCE = 4
    EDIT = 5
    COLLECT = 6
    FETCH = 7
    BACKWARD = 8
    RELEASE = 9
    LOSS = 10
    OPTIMIZER = 11
    STEP = 12
    CHECKPOINT = 13
    RESTORE = 14
    OK = 64
    TENSOR = 65
    ERROR = 66


class WireError(Exception):
    """A message that no honest peer sends."""


class TensorRecord(NamedTuple):
    """Where a contiguous tensor lies in the arena."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class Message(NamedTuple):
    kind: Kind
    nonce: int
    flags: int
    records: tuple[TensorRecord, ...]
    body: dict[str, Any]


def encode(
    kind: Kind, nonce: int, records: Sequence[TensorRecord] = (), body: bytes | Mapping[str, Any] = b"", flags: int = 0
) -> bytes:
    """One message; raises WireError when it would be over the limits of `decode`."""
    raw = body if isinstance(body, bytes) else encode_body(body)
    if len(records) > MAX_RECORDS or len(raw) > MAX_JSON:
        raise WireError("message too large")
    parts = [HEADER.pack(MAGIC, kind, len(records), flags, nonce, len(raw))]
    for record in records:
        dims = len(record.shape)
        sizes = record.shape + (0,) * (MAX_DIMS - dims)
        code = CODE[record.dtype]
        nbytes = prod(record.shape) * ITEM_BYTES[code]
        parts.append(RECORD.pack(code, dims, 0, 0, record.offset, nbytes, *sizes))
    parts.append(raw)
    return b"".join(parts)


def encode_body(body: Mapping[str, Any]) -> bytes:
    """JSON without spaces; an empty mapping is no bytes."""
    return _ENCODER.encode(body).encode() if body else b""


def decode(data: bytes, arena_bytes: int) -> Message:
    """Parses one message strictly; `data` must be private to the caller. Raises WireError for anything odd."""
    if len(data) < HEADER.size:
        raise WireError("short message")
    magic, kind, count, flags, nonce, json_bytes = HEADER.unpack_from(data)
    if magic != MAGIC or count > MAX_RECORDS or json_bytes > MAX_JSON:
        raise WireError("bad header")
    if len(data) != HEADER.size + count * RECORD.size + json_bytes:
        raise WireError("bad length")
    try:
        known = Kind(kind)
    except ValueError:
        raise WireError("unknown kind") from None
    records = tuple(_record(data, HEADER.size + i * RECORD.size, arena_bytes) for i in range(count))
    return Message(known, nonce, flags, records, decode_body(data[len(data) - json_bytes :]))


def _record(data: bytes, at: int, arena_bytes: int) -> TensorRecord:
    code, dims, zero_a, zero_b, offset, nbytes, *sizes = RECORD.unpack_from(data, at)
    if code >= len(DTYPES) or dims > MAX_DIMS or zero_a or zero_b:
        raise WireError("bad tensor record")
    shape = tuple(sizes[:dims])
    elements = prod(shape)
    if any(sizes[dims:]) or min(sizes) < 0 or elements > MAX_ELEMENTS or not (elements or addressable(shape)):
        raise WireError("bad tensor shape")
    if elements * ITEM_BYTES[code] != nbytes or offset > arena_bytes or nbytes > arena_bytes - offset:
        raise WireError("tensor outside the arena")
    if offset % ITEM_BYTES[code]:
        raise WireError("unaligned tensor")
    return TensorRecord(DTYPES[code], shape, offset)


def addressable(shape: Sequence[int]) -> bool:
    """Whether torch can have this shape: it multiplies the sizes also where one of them is zero."""
    return prod(size or 1 for size in shape) < 2**62


def decode_body(raw: bytes) -> dict[str, Any]:
    """Strict JSON object: no NaN, no nesting that the parser cannot take."""
    if not raw:
        return {}
    try:
        body = _DECODER.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise WireError("bad JSON") from None
    if not isinstance(body, dict):
        raise WireError("bad JSON")
    return body


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


# Made once: json.loads and json.dumps with options make a new one per call.
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
