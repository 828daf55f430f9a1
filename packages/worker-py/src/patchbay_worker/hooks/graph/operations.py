"""What the operations of graph edits do: torch's functions of these names. Their arguments are checked by the schema
(packages/protocol/src/graph.ts), shapes by check.py.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

Operand = Tensor | float
Options = Mapping[str, Any]


def _minimum(a: Any, b: Any) -> Tensor:
    return torch.minimum(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else _bounded(a, b, "max")


def _maximum(a: Any, b: Any) -> Tensor:
    return torch.maximum(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else _bounded(a, b, "min")


def _bounded(a: Any, b: Any, side: str) -> Tensor:
    """With a number, which torch's own function does not take."""
    tensor, number = (a, b) if isinstance(a, Tensor) else (b, a)
    return torch.clamp(tensor, **{side: number})


_BY_VALUE: Final[dict[str, Callable[..., Tensor]]] = {
    "abs": torch.abs,
    "neg": torch.neg,
    "sign": torch.sign,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "exp": torch.exp,
    "log": torch.log,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "isnan": torch.isnan,
    "logical_not": torch.logical_not,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "minimum": _minimum,
    "maximum": _maximum,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "where": torch.where,
}
_ALONG: Final[dict[str, Callable[[Tensor, int], Tensor]]] = {
    "sum": lambda value, dim: value.sum(dim, keepdim=True),
    "mean": lambda value, dim: value.mean(dim, keepdim=True),
    "amax": lambda value, dim: value.amax(dim, keepdim=True),
    "amin": lambda value, dim: value.amin(dim, keepdim=True),
    "norm": lambda value, dim: torch.linalg.vector_norm(value, dim=dim, keepdim=True),
    "softmax": torch.softmax,
    "cumsum": torch.cumsum,
}
MIXING: Final = frozenset(_ALONG)
"""Operations whose result depends on all that lies along their dim."""
MOVING: Final = frozenset({"matmul", "unflatten", "flatten"})
"""Operations after which a dim no longer is where it was, or what it was."""


def compute(op: str, arguments: list[Any], options: Options, like: torch.Size) -> Tensor:
    """`like` is the shape of `x`. Raises what torch raises."""
    by_value = _BY_VALUE.get(op)
    if by_value is not None:
        return by_value(*arguments)
    value: Tensor = arguments[0]
    if op in _ALONG:
        return _ALONG[op](value, options["dim"])
    match op:
        case "clamp":
            return torch.clamp(value, options.get("min"), options.get("max"))
        case "matmul":
            return torch.matmul(value, arguments[1])
        case "fill":
            return _fill(value, options["dim"], options["indices"], options["value"])
        case "unflatten":
            split: Tensor = torch.unflatten(value, options["dim"], options["sizes"])
            return split
        case "flatten":
            return value.flatten(options["dim"], options["dim"] + 1)
        case "expand":
            return value.expand(like)
    raise NotImplementedError(op)  # the schema lets no other through: test_operations.py holds the two together


def _fill(value: Tensor, dim: int, indices: list[int], number: float) -> Tensor:
    """Indices are held against the size here: on a GPU torch would do so inside of a kernel, after which CUDA gives the
    process up.
    """
    if max(indices) >= value.shape[dim]:
        raise IndexError(f"index {max(indices)} is out of range for dim {dim} of size {value.shape[dim]}")
    return value.index_fill(dim, torch.tensor(indices, device=value.device), number)
