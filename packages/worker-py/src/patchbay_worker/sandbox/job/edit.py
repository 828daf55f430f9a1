"""One call of an editing function: its arguments, and what it must give back. Not here: the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import Tensor

from patchbay_worker.sandbox.job.user_code import Refusal
from patchbay_worker.sandbox.wire.dtypes import name_of

SHOWN_DIMS: Final = 64
"""Of a shape in an error; torch's own limit is higher for views."""


class CurrentModule(SimpleNamespace):
    """What an edit may know of the module it is hooked to. Not the module itself: its weights stay with the worker."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f'current_module has no "{name}"; it has: {", ".join(self.__dict__)}')


def current_module(facts: Mapping[str, Any]) -> CurrentModule:
    """`batch` becomes an object too, `shape` a tuple."""
    module = CurrentModule(**facts)
    if isinstance(facts.get("batch"), dict):
        module.batch = CurrentModule(**facts["batch"])
    if isinstance(facts.get("shape"), list):
        module.shape = tuple(facts["shape"])
    return module


def run_edit(
    function: Callable[..., Any],
    module: CurrentModule,
    inputs: Tensor,
    save_ctx: object,
    modules: object,
    *,
    gradient: bool,
) -> Tensor:
    """Calls the function and returns a plain tensor of the shape and dtype of `inputs`, with its graph if asked for."""
    shape, dtype = inputs.shape, inputs.dtype  # taken before: the edit may change `inputs` in place
    with torch.set_grad_enabled(gradient):
        result = _plain(function(module, inputs, save_ctx, modules))
    if result.shape != shape:
        raise Refusal("shape", expected=list(shape), actual=list(result.shape)[:SHOWN_DIMS])
    if result.dtype != dtype:
        raise Refusal("dtype", expected=name_of(dtype), actual=name_of(result.dtype))
    return result if gradient else result.detach()


def run_loss(function: Callable[..., Any], logits: Tensor, save_ctx: object, modules: object) -> Tensor:
    """Calls a loss function under gradients; it must give one number."""
    with torch.enable_grad():
        result = _plain(function(logits, save_ctx, modules))
    if result.numel() != 1 or not result.is_floating_point():
        raise Refusal("shape", expected=[], actual=list(result.shape)[:SHOWN_DIMS])
    if not result.requires_grad:
        text = "the loss depends on nothing that gradients flow through (detach(), no_grad(), argmax, a plain number?)"
        raise Refusal("failed", type="NoGradient", text=text, traceback="", line=None)
    return result.reshape(()).to(logits.dtype)


def _plain(result: object) -> Tensor:
    if not isinstance(result, Tensor):
        raise Refusal("returned", type=type(result).__qualname__)
    if result.device.type != "cpu" or result.layout is not torch.strided or result.is_quantized:
        raise Refusal("returned", type=f"a tensor on {result.device} with layout {result.layout}")
    return result
