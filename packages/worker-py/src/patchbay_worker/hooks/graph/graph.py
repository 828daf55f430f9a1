"""A graph edit: its steps, its constants and how it is computed, whole or on one rank's shard.

Not here: reading it from a document (read.py), whether it fits a tensor (check.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.hooks.graph.operations import MOVING, Operand, Options, compute

INPUT: Final = "x"


@dataclass(frozen=True)
class Step:
    """`key` is what later steps know its result by; `last` are the keys that no later step uses."""

    op: str
    arguments: tuple[float | str, ...]
    options: Options
    key: str
    path: str
    hook: str
    last: tuple[str, ...] = ()

    def run(self, values: Mapping[str, Operand], like: torch.Size) -> Tensor:
        """Raises PB_EDIT_GRAPH for what torch refuses."""
        arguments = [values[each] if isinstance(each, str) else each for each in self.arguments]
        try:
            return compute(self.op, arguments, self.options, like)
        except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError) as failure:
            shapes = " and ".join(
                f"{each.dtype} {list(each.shape)}" if isinstance(each, Tensor) else str(each) for each in arguments
            )
            text = (str(failure).splitlines() or [type(failure).__name__])[0]
            raise self.problem(f"{self.op} of {shapes}: {text}") from failure

    def problem(self, reason: str) -> PatchbayError:
        return error("PB_EDIT_GRAPH", path=self.path, hook=self.hook, reason=reason)


@dataclass(frozen=True)
class Shard:
    """The part of a tensor that one of `size` ranks holds along `dim`, which counts from the last one."""

    dim: int
    rank: int
    size: int


@dataclass
class Graph:
    """Shared by all modules that its hook matches. `constants` are there once the job is prepared."""

    hook: str
    path: str
    steps: tuple[Step, ...]
    references: Mapping[str, str]
    """Digest of the artifact of every constant."""
    constants: dict[str, Tensor] = field(default_factory=dict)
    limit_bytes: int = 0
    """Of all constants and results together."""
    fitting: set[object] = field(default_factory=set)
    """What check.py has found to fit."""
    _bound: dict[object, dict[str, Tensor]] = field(default_factory=dict)

    def is_local(self, dim: int | None) -> bool:
        """Whether every rank can compute its own shard of a tensor that is cut along `dim`, which counts from the last
        one; None: each holds all of it. Reductions keep their dim, so that dims count alike in every step.
        """
        if dim is None:
            return True
        return not any(step.op in MOVING or step.options.get("dim") == dim for step in self.steps)

    def run(self, x: Tensor, shard: Shard | None = None) -> Tensor:
        """The result of the last step. `shard` tells which part of the hook's tensor `x` is."""
        values: dict[str, Operand] = {INPUT: x, **self._constants(x, shard)}
        for step in self.steps:
            values[step.key] = step.run(values, x.shape)
            for key in step.last:
                del values[key]
        result = values[self.steps[-1].key]
        assert isinstance(result, Tensor)
        return result

    def operands(self, x: Tensor) -> dict[str, Tensor]:
        """The constants as they are used beside `x`: where that is floating, in its dtype."""
        floating = x.is_floating_point()
        return {
            name: value.to(x.device, x.dtype if floating and value.is_floating_point() else value.dtype)
            for name, value in self.constants.items()
        }

    def _constants(self, x: Tensor, shard: Shard | None) -> dict[str, Tensor]:
        """This rank's part of each that has the dim that is cut; made once."""
        key = (x.dtype, x.device, shard)
        found = self._bound.get(key)
        if found is None:
            found = self.operands(x)
            if shard is not None:
                full = x.shape[shard.dim] * shard.size
                found = {name: _part(value, shard, full) for name, value in found.items()}
            self._bound[key] = found
        return found


def _part(value: Tensor, shard: Shard, full: int) -> Tensor:
    if value.ndim < -shard.dim or value.shape[shard.dim] != full:
        return value  # it is broadcast along that dim
    return value.chunk(shard.size, shard.dim)[shard.rank].contiguous()
