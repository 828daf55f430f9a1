"""Gradients of edits: the autograd graph of a call stays here between the forward and the backward pass of the model.

Edits may reach each other through `save_ctx`; then one call's backward pass adds to the gradient of another's input.
torch runs the later call's backward first, so an input's gradient is complete when its own turn comes; where it is not,
that is an error and never a wrong number. Not here: how the model's graph calls this (hooks/move_and_edit.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchbay_worker.sandbox.job.user_code import Refusal


@dataclass
class Call:
    """One edited tensor. `output` is None once its gradient has been asked for."""

    shape: torch.Size
    dtype: torch.dtype
    output: Tensor | None = None
    gradient: Tensor | None = None
    answered: bool = False
    late: bool = False


class _Entry(torch.autograd.Function):
    """Identity at the border: what flows back through it is the gradient of the call's input."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, value: Tensor, call: Call) -> Tensor:
        ctx.call = call
        return value.clone()  # no view and no leaf, so an edit may write into it

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        call: Call = ctx.call
        (gradient,) = gradients
        call.late = call.late or call.answered
        call.gradient = gradient if call.gradient is None else call.gradient + gradient
        return None, None, None


class Graphs:
    """Calls by the number that the worker gave them."""

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}
        self._anchor = torch.zeros((), requires_grad=True)

    def enter(self, number: int, value: Tensor) -> Tensor:
        """The input of a call, inside of a graph that ends here."""
        call = self._calls[number] = Call(value.shape, value.dtype)
        entered: Tensor = _Entry.apply(self._anchor, value, call)  # type: ignore[no-untyped-call]
        return entered

    def keep(self, number: int, output: Tensor) -> None:
        self._calls[number].output = output

    def backward(self, number: int, gradient: Tensor) -> Tensor:
        """Gradient of the call's input for that of its output; parameters of `modules` collect theirs."""
        call = self._calls[number]
        output, call.output = call.output, None
        if output is not None and output.requires_grad:
            # Kept: what another call saved may lead through the same graph.
            torch.autograd.backward(output, gradient, retain_graph=True)
        call.answered = True
        if any(each.late for each in self._calls.values()):
            raise Refusal(
                "failed",
                type="GradientOrder",
                text="save_ctx carries a value to an edit whose gradient is asked for later than that of the value",
                traceback="",
                line=None,
            )
        answer, call.gradient = call.gradient, None
        return answer if answer is not None else torch.zeros(call.shape, dtype=call.dtype)

    def release(self) -> None:
        """Forgets every graph; what `save_ctx` holds of them stays as values."""
        self._calls.clear()
