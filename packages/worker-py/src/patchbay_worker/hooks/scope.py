"""What all hooks of one run share on one rank. Not here: their registration (attach.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from patchbay_worker.hooks.capture import CaptureLog
from patchbay_worker.hooks.editor import Editor
from patchbay_worker.hooks.selection import Selection, TokenView, select
from patchbay_worker.hooks.spec import Where
from patchbay_worker.sharding.collectives import HookMesh


@dataclass(frozen=True)
class Rows:
    """Rows of the batch over all copies: those of the job, and with those that make the copies' shares equal."""

    real: int
    padded: int

    def take(self, full: Tensor, dim: int | None) -> Tensor:
        """Without the padding along a dim that holds rows, or rows times positions."""
        if dim is None or self.real == self.padded:
            return full
        return full.narrow(dim, 0, full.shape[dim] * self.real // self.padded)

    def put(self, edited: Tensor, full: Tensor, dim: int | None) -> Tensor:
        """The padding of `full` behind what was taken."""
        if dim is None or self.real == self.padded:
            return edited
        start = edited.shape[dim]
        return torch.cat([edited, full.narrow(dim, start, full.shape[dim] - start)], dim)


@dataclass
class RunScope:
    """`view` describes the forward call under way, with the rows of all copies; the run sets it before each.
    `after_backward` is for gradients that torch calls no hook for; every rank has the same ones in the same order.
    """

    run: str
    mesh: HookMesh
    editor: Editor
    captures: CaptureLog
    rows: Rows
    after_backward: list[Callable[[], None]] = field(default_factory=list)
    _view: TokenView | None = None
    _selections: dict[Where | None, Selection | None] = field(default_factory=dict)

    @property
    def view(self) -> TokenView:
        assert self._view is not None, "the run sets the view before it calls the model"
        return self._view

    def end_backward(self) -> None:
        for collect in self.after_backward:
            collect()

    def begin_call(self, view: TokenView) -> None:
        self._view = view
        self._selections.clear()

    def selection(self, where: Where | None) -> Selection | None:
        """Hooks with equal `where` share one selection, with its labels and indices."""
        if where not in self._selections:
            self._selections[where] = select(where, self.view)
        return self._selections[where]
