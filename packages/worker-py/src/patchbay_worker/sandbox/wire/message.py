"""Messages between a worker and its sandbox job: fixed header, tensor records, a little JSON; one SEQPACKET each.

The bytes of tensors are not in a message but in the arena. `decode` trusts nothing: the worker feeds it what user code
may have written. Not here: sending and waiting (client.py, job/server.py).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from math import prod
from typing import Any, Final, NamedTuple

import orjson
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

ROUSE: Final = b"PBS1 rouse"
"""A packet without a reply: a request will come in a moment."""
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


KINDS: Final = {int(kind): kind for kind in Kind}


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
    head = HEADER.pack(MAGIC, kind, len(records), flags, nonce, len(raw))
    return b"".join([head, *map(_packed, records), raw])


@lru_cache(64)
def _packed(record: TensorRecord) -> bytes:
    dims, code = len(record.shape), CODE[record.dtype]
    sizes = record.shape + (0,) * (MAX_DIMS - dims)
    return RECORD.pack(code, dims, 0, 0, record.offset, prod(record.shape) * ITEM_BYTES[code], *sizes)


def encode_body(body: Mapping[str, Any]) -> bytes:
    """JSON without spaces; an empty mapping is no bytes."""
    return _ENCODER.encode(body).encode() if body else b""


def encode_facts(facts: Mapping[str, Any]) -> bytes:
    """The body of an EDIT request: the same JSON in a tenth of the time, for texts and numbers of our own making."""
    return orjson.dumps(facts)


def decode(data: bytes, arena_bytes: int, *, of_worker: bool = False) -> Message:
    """Parses one message strictly; `data` must be private to the caller. Raises WireError for anything odd. The body of
    an EDIT `of_worker` is read as fast as `encode_facts` writes it.
    """
    if len(data) < HEADER.size:
        raise WireError("short message")
    magic, kind, count, flags, nonce, json_bytes = HEADER.unpack_from(data)
    if magic != MAGIC or count > MAX_RECORDS or json_bytes > MAX_JSON:
        raise WireError("bad header")
    if len(data) != HEADER.size + count * RECORD.size + json_bytes:
        raise WireError("bad length")
    known = KINDS.get(kind)
    if known is None:
        raise WireError("unknown kind")
    end = len(data) - json_bytes
    records = tuple([_record(data[at : at + RECORD.size], arena_bytes) for at in range(HEADER.size, end, RECORD.size)])
    raw = data[end:]
    body = orjson.loads(raw) if of_worker and raw and known is Kind.EDIT else decode_body(raw)
    return Message(known, nonce, flags, records, body)


@lru_cache(64)  # most calls are about tensors of a few shapes, at one place
def _record(raw: bytes, arena_bytes: int) -> TensorRecord:
    code, dims, zero_a, zero_b, offset, nbytes, *sizes = RECORD.unpack(raw)
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
