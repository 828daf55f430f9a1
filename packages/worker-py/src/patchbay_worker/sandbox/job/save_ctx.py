"""`save_ctx`: the namespace that all edits of a job share, and its form in a checkpoint: named tensors, one of which
holds the rest as JSON. That form is exact, or there is none. Not here: what of it reaches the user (export.py).
"""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final

import numpy
import torch
from torch import Tensor

TREE: Final = "save_ctx.tree"
MAX_DEPTH: Final = 64
REASON_CHARS: Final = 400


class SaveContext:
    """Attributes and items are the same thing: `save_ctx.x`, `save_ctx["x"]`, `"x" in save_ctx`, `len`, iteration.

    It belongs to the job: what one run stores the next one finds. At the end of the job tensors and arrays go into
    `save_ctx.safetensors`, numbers, texts, lists and dicts into `saveCtx` of `result.json`; what has no form there is
    left out with a warning. An input may be stored as it is: later calls do not overwrite it.

    Raises:
        AttributeError: when an attribute is read that nobody has stored; the message lists those that there are.
        KeyError: the same for an item.
    """

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
        """What is stored.

        Args:
            name: the attribute.
            default: given back where there is none.

        Returns:
            The value, or `default`.
        """
        return self.__dict__.get(name, default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """What is stored; where there is nothing, `default`, which is then stored: for what calls add to.

        Args:
            name: the attribute.
            default: stored where there is none.

        Returns:
            The value that is stored now.
        """
        return self.__dict__.setdefault(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """Takes a value out, so that it is not in the result.

        Args:
            name: the attribute.
            *default: given back where there is none.

        Returns:
            The value, or `default`.

        Raises:
            KeyError: there is neither.
        """
        return self.__dict__.pop(name, *default)

    def keys(self) -> KeysView[str]:
        """Names, in the order in which they were stored.

        Returns:
            A view, as of a dict.
        """
        return self.__dict__.keys()

    def values(self) -> ValuesView[Any]:
        """Values, in the order in which they were stored.

        Returns:
            A view, as of a dict.
        """
        return self.__dict__.values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values, in the order in which they were stored.

        Returns:
            A view, as of a dict.
        """
        return self.__dict__.items()


class Unkeepable(Exception):
    """A value that would not come back as it was. The text holds names that the user chose, of any length."""

    def __str__(self) -> str:
        return super().__str__()[:REASON_CHARS]


class Keeper:
    """Takes a `save_ctx` apart, once. `tensors` is its form; raises Unkeepable. `modules` are the tensors of the job's
    modules: a value that shares memory or a graph with them would not do so any more after a retry.
    """

    def __init__(self, context: SaveContext, modules: Mapping[str, Tensor]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._modules = {id(value) for value in modules.values()}
        self._seen = {_memory(value) for value in modules.values()}  # and containers that may change, by identity
        self._held: dict[int, tuple[int, Tensor]] = {}  # by identity, which lasts while it is held
        tree = json.dumps(self._items("save_ctx", context, 0)).encode()
        self.tensors[TREE] = torch.frombuffer(bytearray(tree), dtype=torch.uint8)

    def _node(self, name: str, value: Any, depth: int) -> Any:
        kind = type(value)
        if depth > MAX_DEPTH:
            raise Unkeepable(f"{name} is nested too deep")
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return {"float": value.hex()}
        if kind is complex:
            return {"complex": [value.real.hex(), value.imag.hex()]}
        if kind is Tensor:
            return {"tensor": self._tensor(name, value), "gradient": value.is_leaf and value.requires_grad}
        if kind is numpy.ndarray or isinstance(value, numpy.generic):
            return {"array": self._array(name, numpy.asarray(value)), "scalar": kind is not numpy.ndarray}
        if kind is torch.dtype:
            return {"dtype": str(value).removeprefix("torch.")}
        if kind in (tuple, torch.Size):
            sort = "tuple" if kind is tuple else "size"
            return {sort: [self._node(f"{name}[{at}]", each, depth + 1) for at, each in enumerate(value)]}
        if kind not in (list, set, dict, SaveContext):
            raise Unkeepable(f"{name} is of type {kind.__qualname__}")
        self._once(name, id(value))
        if kind in (dict, SaveContext):
            return {"dict" if kind is dict else "context": self._items(name, value, depth)}
        sort = "list" if kind is list else "set"
        return {sort: [self._node(f"{name}[{at}]", each, depth + 1) for at, each in enumerate(value)]}

    def _items(self, name: str, value: Mapping[Any, Any] | SaveContext, depth: int) -> list[Any]:
        return [
            [self._node(f"a key of {name}", key, depth + 1), self._node(f"{name}.{key}", each, depth + 1)]
            for key, each in value.items()
        ]

    def _tensor(self, name: str, value: Tensor) -> list[Any]:
        """Its number and its strides: the order in which sums go through it depends on them."""
        if id(value) not in self._held:
            if value.device.type != "cpu" or value.layout is not torch.strided:
                raise Unkeepable(f"{name} is a tensor on {value.device.type} with layout {value.layout}")
            if self._depends_on_modules(value):
                raise Unkeepable(f"{name} is part of the graph of a step that is over; save a detached copy")
            self._once(name, _memory(value))
            number = len(self._held)
            self._held[id(value)] = number, value
            self.tensors[f"save_ctx.{number}"] = value.detach().clone()
        number, _ = self._held[id(value)]
        return [number, list(self.tensors[f"save_ctx.{number}"].stride())]

    def _array(self, name: str, value: numpy.ndarray[Any, Any]) -> list[Any]:
        if not value.flags.c_contiguous:
            raise Unkeepable(f"{name} is a part of an array or a turned one")
        try:
            return self._tensor(name, torch.from_numpy(value))
        except TypeError as problem:
            raise Unkeepable(f"{name} is an array of {value.dtype}") from problem

    def _depends_on_modules(self, value: Tensor) -> bool:
        nodes, seen = [value.grad_fn], set()
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if id(getattr(node, "variable", None)) in self._modules:
                return True
            nodes += [before for before, _ in node.next_functions]
        return False

    def _once(self, name: str, mark: int) -> None:
        if mark in self._seen:
            raise Unkeepable(f"{name} is in two places, or part of another value")
        self._seen.add(mark)


def _memory(value: Tensor) -> int:
    """Empty tensors share none."""
    return value.untyped_storage().data_ptr() or id(value)


def put_back(context: SaveContext, saved: Mapping[str, Tensor]) -> None:
    """`context` becomes what a Keeper took apart."""
    tensors: dict[int, Tensor] = {}

    def tensor(content: list[Any]) -> Tensor:
        number, stride = content
        if number not in tensors:
            flat = saved[f"save_ctx.{number}"]
            tensors[number] = torch.empty_strided(flat.shape, stride, dtype=flat.dtype).copy_(flat)
        return tensors[number]

    def value(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        (sort, content), *_ = node.items()
        match sort:
            case "float":
                return float.fromhex(content)
            case "complex":
                return complex(*map(float.fromhex, content))
            case "tensor":
                return tensor(content).requires_grad_(node["gradient"])
            case "array":
                array = tensor(content).numpy()
                return array[()] if node["scalar"] else array
            case "dtype":
                return getattr(torch, content)
            case "dict":
                return items(content)
            case "context":
                inner = SaveContext()
                inner.__dict__.update(items(content))
                return inner
        made = {"tuple": tuple, "size": torch.Size, "list": list, "set": set}[sort]
        return made(map(value, content))

    def items(content: list[Any]) -> dict[Any, Any]:
        return {value(key): value(each) for key, each in content}

    context.__dict__.clear()
    context.__dict__.update(items(json.loads(saved[TREE].numpy().tobytes())))
