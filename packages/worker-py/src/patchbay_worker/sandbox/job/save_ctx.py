"""`save_ctx`: the namespace that all edits of a job share, and its form in a checkpoint, from which it comes back as it
was. Not here: what of it reaches the user (export.py), which takes more kinds of values and need not give them back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final

import torch
from torch import Tensor

from patchbay_worker.sandbox.wire.dtypes import CODE
from patchbay_worker.sandbox.wire.message import MAX_DIMS

VALUES: Final = "values"
MAX_DEPTH: Final = 16
MAX_TENSORS: Final = 1000
MAX_BITS: Final = 4096  # of an integer; longer ones are refused by Python's own conversion
MAX_BYTES: Final = 64 << 20  # a checkpoint is taken while the training waits


class SaveContext:
    """Attributes and items are the same thing: `save_ctx.x`, `save_ctx["x"]`, `"x" in save_ctx`."""

    def __getattr__(self, name: str) -> Any:
        # Reached only when nothing of this name has been stored.
        raise AttributeError(f'save_ctx has no "{name}"; it has: {", ".join(map(str, self.__dict__)) or "nothing yet"}')

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def __delitem__(self, name: str) -> None:
        del self.__dict__[name]

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __repr__(self) -> str:
        return f"save_ctx({', '.join(map(str, self.__dict__))})"

    def get(self, name: str, default: Any = None) -> Any:
        return self.__dict__.get(name, default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        return self.__dict__.setdefault(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        return self.__dict__.pop(name, *default)

    def keys(self) -> KeysView[str]:
        return self.__dict__.keys()

    def values(self) -> ValuesView[Any]:
        return self.__dict__.values()

    def items(self) -> ItemsView[str, Any]:
        return self.__dict__.items()


class _NotKept(Exception):
    """A value that would not come back as it was."""


def pack(context: SaveContext) -> dict[str, Tensor]:
    """Tensors by number, and under VALUES the JSON that refers to them: {"kept": [[name, value]], "left": [..]}."""
    tensors: list[Tensor] = []
    kept, left = [], []
    for name, value in list(context.items()):
        count = len(tensors)
        try:
            kept.append([_packed(name, tensors, 0), _packed(value, tensors, 0)])
        except _NotKept:
            del tensors[count:]
            left.append(name if type(name) is str else f"a key of type {type(name).__name__}")
    text = json.dumps({"kept": kept, "left": left}).encode()
    named = {str(number): tensor for number, tensor in enumerate(tensors)}
    return {**named, VALUES: torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def unpack(saved: Mapping[str, Tensor], context: SaveContext) -> None:
    """`context` as it was when `saved` was packed, but for what was left out."""
    vars(context).clear()
    for name, value in json.loads(bytes(saved[VALUES].numpy()))["kept"]:
        context[_unpacked(name, saved)] = _unpacked(value, saved)


def _packed(value: Any, tensors: list[Tensor], depth: int) -> Any:
    """[kind, content]; only exact types, since a subclass would come back as something else."""
    kind = type(value)
    if depth > MAX_DEPTH:
        raise _NotKept
    if kind in (type(None), bool, str) or (kind is int and value.bit_length() <= MAX_BITS):
        return ["plain", value]
    if kind is float:
        return ["float", value.hex()]
    if kind is Tensor:
        fits = value.device.type == "cpu" and value.layout is torch.strided and value.dtype in CODE
        if not fits or value.dim() > MAX_DIMS or len(tensors) == MAX_TENSORS:
            raise _NotKept
        if sum(each.nbytes for each in tensors) + value.nbytes > MAX_BYTES:
            raise _NotKept
        tensors.append(value.detach().clone())
        return ["tensor", len(tensors) - 1]
    if kind in (list, tuple):
        return [kind.__name__, [_packed(item, tensors, depth + 1) for item in value]]
    if kind is dict and all(type(key) is str for key in value):
        return ["dict", [[key, _packed(item, tensors, depth + 1)] for key, item in value.items()]]
    raise _NotKept


def _unpacked(packed: Any, saved: Mapping[str, Tensor]) -> Any:
    kind, content = packed
    makers: dict[str, Callable[[], Any]] = {
        "plain": lambda: content,
        "float": lambda: float.fromhex(content),
        "tensor": lambda: saved[str(content)],
        "list": lambda: [_unpacked(item, saved) for item in content],
        "tuple": lambda: tuple(_unpacked(item, saved) for item in content),
        "dict": lambda: {key: _unpacked(item, saved) for key, item in content},
    }
    return makers[kind]()
