"""What reads bytes that user code may have written, each as a function of bytes. A target may raise `Refused` and
nothing else; what it lets through it holds to what its callers rely on.

Not here: where the bytes come from (mutate.py, test_fuzz.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError
from patchbay_worker.frames import BrokenFrame, FrameParser
from patchbay_worker.sandbox.collect import NAME, collect
from patchbay_worker.sandbox.failures import from_report
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.wire.message import MAX_ELEMENTS, WireError, decode, decode_body, encode

ARENA: Final = 1 << 20
LIMITS: Final = SandboxLimits(save_ctx_bytes=1 << 16, save_ctx_json_bytes=1 << 16)
CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
LONGEST: Final = 16_000


class Refused(Exception):
    """The input was turned away as it should be."""


def wire(data: bytes) -> None:
    """A packet of a job."""
    try:
        message = decode(data, ARENA)
    except WireError as problem:
        raise Refused from problem
    for record in message.records:
        assert 0 <= record.offset <= record.offset + record.nbytes <= ARENA
        assert record.nbytes <= MAX_ELEMENTS * 16
        torch.empty(record.shape, dtype=record.dtype, device="meta")
    try:
        again = encode(message.kind, message.nonce, message.records, message.body, message.flags)
    except (WireError, UnicodeEncodeError):
        return  # the same body may be longer in our own spelling
    assert decode(again, ARENA) == message or "nan" in repr(message.body)


def report(data: bytes) -> None:
    """The body of an error."""
    try:
        problem = from_report(decode_body(data), "hook", LIMITS)
    except WireError as bad:
        raise Refused from bad
    assert isinstance(problem, PatchbayError)
    text = json.dumps(problem.to_json(), ensure_ascii=False)
    assert len(problem.message) <= LONGEST
    assert not CONTROLS.search(problem.message)
    text.encode()


def manifest(data: bytes) -> None:
    """What a job says it has kept, with bytes of its choice behind every name."""

    def fetch(index: int, size: int) -> Tensor:
        if index == 0:
            return torch.frombuffer(bytearray(data), dtype=torch.uint8)
        assert size <= LIMITS.save_ctx_bytes
        return torch.full((size,), 0xA5, dtype=torch.uint8)

    try:
        found = collect(len(data), fetch, "", LIMITS)
    except WireError as bad:
        raise Refused from bad
    for name, tensor in (found.tensors | found.modules | found.checkpoint).items():
        assert NAME.fullmatch(name)
        assert tensor.numel() * tensor.element_size() <= LIMITS.save_ctx_bytes
    json.dumps(found.save_ctx, allow_nan=False, ensure_ascii=False).encode()
    assert all(not CONTROLS.search(line) for line in found.warnings)


def frames(data: bytes) -> None:
    """The stream between processes of a gang, from whoever reaches its port."""
    parser = FrameParser(limit=1 << 16)
    try:
        found: list[Any] = [*parser.feed(data[: len(data) // 2]), *parser.feed(data[len(data) // 2 :])]
    except BrokenFrame as bad:
        raise Refused from bad
    whole = FrameParser(limit=1 << 16).feed(data)
    assert [repr(each) for each in found] == [repr(each) for each in whole], "cuts of the stream change nothing"


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {each.__name__: each for each in (wire, report, manifest, frames)}
