"""Takes `save_ctx`, `modules` and logs out of a job at its end, checking everything.

Not here: how they are flattened (job/export.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.wire.dtypes import BY_NAME
from patchbay_worker.sandbox.wire.message import MAX_DIMS, WireError, addressable
from patchbay_worker.sandbox.wire.text import plain_text

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,192}")
SECTIONS: Final = ("save_ctx", "modules", "checkpoint")
MAX_MODULE_TENSORS: Final = 4096
MAX_DEPTH: Final = 32
MAX_WARNINGS: Final = 64
WARNING_CHARS: Final = 400
MANIFEST_SLACK: Final = 2 << 20
"""Room in the manifest beside the plain values: names and shapes of tensors, warnings."""

Fetch = Callable[[int, int], Tensor]
"""(index, bytes) -> that many bytes of export `index` as a flat uint8 tensor."""


@dataclass(frozen=True)
class SandboxResult:
    """What a job leaves behind."""

    save_ctx: dict[str, Any]
    """Plain JSON; a tensor is {"tensor": name}, a value without a form {"missing": reason}."""
    tensors: dict[str, Tensor]
    modules: dict[str, Tensor]
    """`<module>.<parameter>`"""
    logs: str
    warnings: list[str]
    checkpoint: dict[str, Tensor] = field(default_factory=dict)
    """Of a training run, when that was asked for."""


class Entry(NamedTuple):
    section: str
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def collect(manifest_bytes: object, fetch: Fetch, logs: str, limits: SandboxLimits) -> SandboxResult:
    """Reads the manifest (export 0), then each tensor it names. Raises WireError for what no honest job sends."""
    top = limits.save_ctx_json_bytes + MANIFEST_SLACK
    if not isinstance(manifest_bytes, int) or not 0 < manifest_bytes <= top:
        raise WireError("bad manifest size")
    manifest = _parse(fetch(0, manifest_bytes).numpy().tobytes())
    entries = _entries(manifest.get("tensors"), limits)
    found: dict[str, dict[str, Tensor]] = {section: {} for section in SECTIONS}
    for index, entry in enumerate(entries, start=1):
        raw = fetch(index, entry.nbytes)
        if entry.dtype is torch.bool:
            raw = raw.ne(0)
        found[entry.section][entry.name] = raw.view(entry.dtype).view(entry.shape)
    values = manifest.get("values")
    if not isinstance(values, dict) or not _shallow(values):
        raise WireError("bad values")
    warnings = _warnings(manifest.get("warnings"))
    return SandboxResult(values, found["save_ctx"], found["modules"], logs, warnings, found["checkpoint"])


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
        # Half a surrogate pair, or a number beyond a double (1e999), would fail later, elsewhere.
        json.dumps(manifest, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise WireError("bad manifest") from None
    if not isinstance(manifest, dict):
        raise WireError("bad manifest")
    return manifest


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _entries(listed: object, limits: SandboxLimits) -> list[Entry]:
    if not isinstance(listed, list) or len(listed) > limits.save_ctx_tensors + MAX_MODULE_TENSORS:
        raise WireError("bad list of tensors")
    entries = [_entry(item) for item in listed]
    if len({(entry.section, entry.name) for entry in entries}) != len(entries):
        raise WireError("a tensor is named twice")
    if sum(entry.nbytes for entry in entries) > limits.save_ctx_bytes:
        raise WireError("tensors over the limit")
    return entries


def _entry(item: object) -> Entry:
    if not isinstance(item, dict):
        raise WireError("bad tensor entry")
    section, name, dtype, shape = (item.get(key) for key in ("section", "name", "dtype", "shape"))
    if section not in SECTIONS or not isinstance(name, str) or not NAME.fullmatch(name):
        raise WireError("bad tensor name")
    if not isinstance(dtype, str) or dtype not in BY_NAME or not isinstance(shape, list) or len(shape) > MAX_DIMS:
        raise WireError("bad tensor entry")
    if not all(type(size) is int and size >= 0 for size in shape) or not addressable(shape):
        raise WireError("bad tensor shape")
    return Entry(section, name, BY_NAME[dtype], tuple(shape))


def _warnings(listed: object) -> list[str]:
    if not isinstance(listed, list) or len(listed) > MAX_WARNINGS or not all(isinstance(line, str) for line in listed):
        raise WireError("bad warnings")
    return [plain_text(line, WARNING_CHARS) for line in listed]


def _shallow(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return True
        level = [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]
    return False
