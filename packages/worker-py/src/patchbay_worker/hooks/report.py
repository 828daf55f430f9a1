"""What one hook did in one run: counts, times, and how far its edit moved the tensor. Kept on the root.

Where every rank edits its own shard, each has a part of it, and they are put together at the end of the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from patchbay_worker.hooks.spec import Route
from patchbay_worker.spans import Span

Part = Literal["gather", "edit", "scatter"]


@dataclass
class HookReport:
    run: str
    hook: str
    module: str
    route: Route
    calls: int = 0
    rows_touched: int = 0
    gathered_bytes: int = 0
    gather_ms: float = 0.0
    edit_ms: float = 0.0
    scatter_ms: float = 0.0
    not_finite: int = 0
    _before: float = 0.0  # sums of squares over all calls
    _change: float = 0.0
    _apart: list[Tensor] = field(default_factory=list)
    """Of every call on a shard: which rows it has touched."""
    _began: float | None = None
    _ended: float = 0.0
    _unsettled: list[Callable[[], None]] = field(default_factory=list)

    def called(self) -> int:
        """The number of this call."""
        self._note(time.perf_counter())
        self.calls += 1
        return self.calls - 1

    def took(self, part: Part, started: float) -> None:
        """From `started` until now."""
        ms = self._note(started) * 1e3
        if part == "gather":
            self.gather_ms += ms
        elif part == "edit":
            self.edit_ms += ms
        else:
            self.scatter_ms += ms

    def _note(self, started: float) -> float:
        self._ended = time.perf_counter()
        if self._began is None:
            self._began = started
        return self._ended - started

    def span(self) -> Span | None:
        """From its first call to what its last one moved; None for a hook that no call came to."""
        if self._began is None:
            return None
        told = self.to_json()
        parts = {name: told[name] for name in ("module", "route", "calls", "gatherMs", "editMs", "scatterMs")}
        return Span(f"hook {self.hook}", self._began, self._ended, parts)

    def edited(
        self,
        before: Tensor,
        after: Tensor,
        mask: Tensor | None,
        leading: int | None = None,
        *,
        apart: bool = False,
    ) -> None:
        """One edit, which `settle` adds: the ranks need not wait for it. Until then neither tensor may change.

        `leading` dims hold tokens, `mask` marks the slots that do; others belong to a row's vector, which is the last
        dim alone where no tokens are known. `apart` edits are of this rank's shard alone.
        """
        self._unsettled.append(partial(self._compare, before, after, mask, leading, apart))

    def settle(self) -> None:
        """Adds all edits so far."""
        unsettled, self._unsettled = self._unsettled, []
        for compare in unsettled:
            compare()

    def _compare(self, before: Tensor, after: Tensor, mask: Tensor | None, leading: int | None, apart: bool) -> None:
        row_dims = leading or max(before.ndim - 1, 1)
        old, new = _rows(before, row_dims), _rows(after, row_dims)
        self._before += _squares(_norms(old), mask)
        if after is before:
            if apart:
                self._apart.append(old.new_zeros(old.shape[:-1], dtype=torch.bool))
            return
        moved = _norms(_wide(new) - _wide(old))
        touched = moved != 0
        total = _squares(moved, None)
        if not (before.is_floating_point() and math.isfinite(total)):
            # A difference of integers may be rounded away, one of infinities is no number.
            touched = (old != new).any(-1)
            self.not_finite += _new_not_finite(before, after)
        elif not touched.all():
            still = ~touched  # or so little that its square is 0
            touched[still] = (old[still] != new[still]).any(-1)
        touched = touched if mask is None else touched & mask
        if apart:
            self._apart.append(touched)
        else:
            self.rows_touched += int(touched.sum())
        self._change += total if mask is None else _squares(moved, mask)

    def parts(self) -> Tensor:
        """What this rank has of a hook whose shards were edited apart, as numbers to be summed over the shards; empty
        for other hooks. Of the same size on every rank.
        """
        self.settle()
        if not self._apart:
            return torch.empty(0, dtype=torch.float64)
        sums = torch.tensor([self._before, self._change, self.not_finite], dtype=torch.float64)
        return torch.cat([sums, *(rows.flatten().cpu().double() for rows in self._apart)])

    def put_together(self, total: Tensor) -> None:
        """`total` is the sum of all ranks' `parts`."""
        if len(total) > 0:
            self._before, self._change, self.not_finite = float(total[0]), float(total[1]), int(total[2])
            self.rows_touched = int((total[3:] > 0).sum())  # a row is touched where any of its shards is

    def to_json(self) -> dict[str, Any]:
        self.settle()
        change = math.sqrt(self._change / self._before) if self._before > 0 else None
        if change is not None and not math.isfinite(change):
            change = None
        return {
            "run": self.run,
            "hook": self.hook,
            "module": self.module,
            "calls": self.calls,
            "rowsTouched": self.rows_touched,
            "relativeChange": change,
            "notFinite": self.not_finite,
            "route": self.route,
            "gatheredBytes": self.gathered_bytes,
            "gatherMs": round(self.gather_ms, 3),
            "editMs": round(self.edit_ms, 3),
            "scatterMs": round(self.scatter_ms, 3),
        }


def _new_not_finite(before: Tensor, after: Tensor) -> int:
    """Values that are NaN or infinite after an edit and were not before."""
    if not after.is_floating_point():
        return 0
    return int((before.isfinite() & ~after.isfinite()).sum())


def _rows(value: Tensor, row_dims: int) -> Tensor:
    """All that belongs to a row in the last dim."""
    return value.reshape(*value.shape[:row_dims], -1) if value.numel() else value.new_empty(*value.shape[:row_dims], 0)


def _wide(value: Tensor) -> Tensor:
    return value if value.dtype is torch.float64 else value.float()


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(_wide(rows), dim=-1)
    return norms


def _squares(norms: Tensor, mask: Tensor | None) -> float:
    return float(torch.linalg.vector_norm(norms if mask is None else norms[mask], dtype=torch.float64)) ** 2
