"""Turns `save_ctx` and `modules` into JSON values and named tensors. Not here: moving them (server.py, collect.py).

Nothing is guessed: a value that has no honest form is left out with a reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy
import torch
from torch import Tensor, nn

from patchbay_worker.sandbox.job.save_ctx import SaveContext
from patchbay_worker.sandbox.wire.dtypes import CODE, name_of
from patchbay_worker.sandbox.wire.message import MAX_DIMS

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,192}")
MAX_DEPTH: Final = 16
MAX_ITEMS: Final = 100_000
MAX_MODULE_TENSORS: Final = 4096
MAX_WARNINGS: Final = 20
EXACT: Final = 2**53 - 1
"""The largest integer that every reader of JSON takes as it is; larger ones go as text, not rounded."""


class TooMany(Exception):
    """Not a fault: what is kept has more values than a result may have."""


class Exporter:
    """Walks values once; afterwards `tensors` holds what the JSON refers to."""

    def __init__(self, max_tensors: int, max_bytes: int) -> None:
        self.tensors: list[tuple[str, str, Tensor]] = []
        self.warnings: list[str] = []
        self._left = {"save_ctx": max_tensors, "modules": MAX_MODULE_TENSORS, "checkpoint": MAX_MODULE_TENSORS}
        self._names: set[tuple[str, str]] = set()
        self._bytes_left = max_bytes
        self._items_left = MAX_ITEMS

    def save_ctx(self, context: SaveContext) -> dict[str, Any]:
        return {_text(key): self._whole(_text(key), value) for key, value in list(context.items())}

    def modules(self, modules: nn.ModuleDict) -> None:
        for name, tensor in modules.state_dict().items():
            self._tensor("modules", name, tensor)

    def checkpoint(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._tensor("checkpoint", name, tensor)

    def _whole(self, name: str, value: Any) -> Any:
        """One entry of `save_ctx`; all of it is left out when it is too much to walk through."""
        before = len(self.tensors)
        try:
            return self._value(name, value, 0)
        except TooMany:
            del self.tensors[before:]
            return self._missing(name, f"more than {MAX_ITEMS} values")

    def _value(self, name: str, value: Any, depth: int) -> Any:
        self._items_left -= 1
        if self._items_left < 0:
            raise TooMany
        if depth > MAX_DEPTH:
            return self._missing(name, "nested too deep")
        if value is None or isinstance(value, bool | int | str):
            # Subclasses (an enum, a str with surprises) become the plain value.
            return value if value is None or isinstance(value, bool) else _plain(value)
        if isinstance(value, float):
            return _number(float(value))
        if isinstance(value, Tensor):
            return self._tensor("save_ctx", name, value)
        if isinstance(value, numpy.generic):
            return self._value(name, value.item(), depth + 1)
        if isinstance(value, numpy.ndarray):
            return self._array(name, value, depth)
        if isinstance(value, Mapping | SaveContext):
            return {
                _text(key): self._value(f"{name}.{_text(key)}", item, depth + 1) for key, item in list(value.items())
            }
        if isinstance(value, list | tuple):
            return [self._value(f"{name}.{position}", item, depth + 1) for position, item in enumerate(value)]
        if isinstance(value, torch.dtype | torch.device):
            return str(value)
        return self._missing(name, f"a value of type {type(value).__qualname__} has no form in a result")

    def _array(self, name: str, array: numpy.ndarray[Any, Any], depth: int) -> Any:
        try:
            return self._tensor("save_ctx", name, torch.from_numpy(numpy.ascontiguousarray(array)).reshape(array.shape))
        except TypeError:
            return self._missing(name, f"a numpy array of {array.dtype} has no form in a result")

    def _tensor(self, section: str, name: str, tensor: Tensor) -> Any:
        reason = self._refusal(section, name, tensor)
        if reason:
            return self._missing(name, reason, section)
        self._left[section] -= 1
        self._names.add((section, name))
        self._bytes_left -= tensor.numel() * tensor.element_size()
        self.tensors.append((section, name, tensor.detach()))
        return {"tensor": name}

    def _refusal(self, section: str, name: str, tensor: Tensor) -> str | None:
        if not NAME.fullmatch(name):
            return "its name has characters that a result file does not take"
        if (section, name) in self._names:
            return "another tensor has this name"
        if tensor.is_nested:
            return "a nested tensor has no form in a result"
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided or tensor.is_quantized:
            return f"a tensor on {tensor.device.type} with layout {tensor.layout} has no form in a result"
        if tensor.dtype not in CODE or tensor.dim() > MAX_DIMS:
            return f"a tensor of {name_of(tensor.dtype)} with {tensor.dim()} dims has no form in a result"
        if not self._left[section]:
            return "too many tensors"
        if tensor.numel() * tensor.element_size() > self._bytes_left:
            return "all tensors together are too large"
        return None

    def _missing(self, name: str, reason: str, section: str = "save_ctx") -> dict[str, str]:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(f"{section}.{name}"[:160] + f" is not in the result: {reason}")
        return {"missing": reason}


def manifest_tensors(exporter: Exporter) -> Iterator[dict[str, Any]]:
    for section, name, tensor in exporter.tensors:
        yield {"section": section, "name": name, "dtype": name_of(tensor.dtype), "shape": list(tensor.shape)}


def _number(value: float) -> float | str:
    """JSON has no NaN; they go by name, as in protobuf's JSON."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _text(value: object) -> str:
    """Valid UTF-8, whatever the user made of it."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _plain(value: int | str) -> int | str:
    if isinstance(value, str):
        return _text(str.__str__(value))
    number = int.__int__(value)
    return number if abs(number) <= EXACT else str(number) if number.bit_length() < 10_000 else "too large"
