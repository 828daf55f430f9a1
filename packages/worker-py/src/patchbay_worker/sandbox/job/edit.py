"""One call of an editing function: its arguments, and what it must give back. Not here: the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from patchbay_worker.sandbox.job.modules import JobModules
from patchbay_worker.sandbox.job.save_ctx import SaveContext
from patchbay_worker.sandbox.job.user_code import Refusal
from patchbay_worker.sandbox.wire.dtypes import name_of

SHOWN_DIMS: Final = 64
"""Of a shape in an error; torch's own limit is higher for views."""
GRADIENTS: Final = {True: torch.enable_grad(), False: torch.no_grad()}
"""Made once: to make one costs as much as to enter it. An edit runs inside of no other."""


class CurrentModule(SimpleNamespace):
    """What an edit may know of the module it is hooked to. Not the module itself: its weights stay with the worker.

    Raises:
        AttributeError: for any other name; the message lists those that there are.

    Attributes:
        name (str): the module's full name, `model.layers.2.mlp`.
        class_name (str): the module's class, `LlamaMLP`.
        training (bool): always False: models run as after `eval()`, in every mode.
        run (str): the name of the run.
        call (int): how often this hook has been called in this run; the first call has 0.
        step (int): the forward pass of a run: 0 for the prompt, then one for every generated token or training step.
        shape (tuple[int, ...]): the shape of `inputs`.
        batch (CurrentModule): the tokens that `inputs` holds. `rows`: index in the batch of every row; `lengths`: real
            tokens of every row; `token_ids` and `positions`: a list per row, without padding; `padding`: always
            `right`.
    """

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f'current_module has no "{name}"; it has: {", ".join(self.__dict__)}')


class Edit(Protocol):
    """An editing function, `def edit(current_module, inputs, save_ctx, modules)`, called once per call of its module.

    `torch`, `np` and what the image has installed can be used; there is no network, file, device or other process.
    In a run that asks for gradients they flow through the function, otherwise it runs under `no_grad`.

    Args:
        current_module: the module that the hook sits on.
        inputs: the whole tensor, of all ranks and copies, on the CPU: `[B, S, ..]` for most modules, in the dtype of
            the deployment, or the part of it that `where` selects. It may be changed in place and kept.
        save_ctx: values that all edits of the job share, run after run.
        modules: the job's `modules` by name.

    Returns:
        The tensor that the model goes on with: of the shape and dtype of `inputs`, dense and on the CPU.

    Raises:
        PB_EDIT_FAILED: any exception of the function; the job fails with its traceback and the line of the source.
        PB_EDIT_SHAPE: the result has another shape than `inputs`.
        PB_EDIT_DTYPE: the result has another dtype than `inputs`.
        PB_EDIT_RETURNED_NONE: the result is no tensor, or one that is sparse, quantized or not on the CPU.
        PB_EDIT_SIGNATURE: the function does not take four positional arguments.
    """

    def __call__(
        self, current_module: CurrentModule, inputs: Tensor, save_ctx: SaveContext, modules: JobModules
    ) -> Tensor: ...


class Loss(Protocol):
    """The function of a loss of kind `python`, `def loss(logits, save_ctx, modules)`: once per pass, with gradients.

    Args:
        logits: `[B, S, V]` of the whole batch, on the CPU, in the dtype of the deployment; B rows without those that
            fill up copies, S the longest row (others are padded on the right), V the vocabulary.
        save_ctx: values that all edits of the job share.
        modules: the job's `modules` by name.

    Returns:
        One floating point number that depends on `logits`; it is converted to their dtype.

    Raises:
        PB_EDIT_SHAPE: the result has more than one element, or is not floating point.
        PB_EDIT_FAILED: any exception of the function, and a result that no gradient flows through.
    """

    def __call__(self, logits: Tensor, save_ctx: SaveContext, modules: JobModules) -> Tensor: ...


def current_module(facts: Mapping[str, Any], batch: str) -> CurrentModule:
    """`batch`, as JSON or empty, becomes an object too, `shape` a tuple."""
    module = CurrentModule(**facts)
    if batch:
        module.batch = CurrentModule(**json.loads(batch))  # of its own for every call: its lists may be changed
    if isinstance(facts.get("shape"), list):
        module.shape = tuple(facts["shape"])
    return module


def run_edit(
    function: Edit,
    module: CurrentModule,
    inputs: Tensor,
    save_ctx: SaveContext,
    modules: JobModules,
    *,
    gradient: bool,
) -> Tensor:
    """Calls the function and returns a plain tensor of the shape and dtype of `inputs`, with its graph if asked for."""
    shape, dtype = inputs.shape, inputs.dtype  # taken before: the edit may change `inputs` in place
    with GRADIENTS[gradient]:
        result = _plain(function(module, inputs, save_ctx, modules))
    if result.shape != shape:
        raise Refusal("shape", expected=list(shape), actual=list(result.shape)[:SHOWN_DIMS])
    if result.dtype != dtype:
        raise Refusal("dtype", expected=name_of(dtype), actual=name_of(result.dtype))
    return result.detach() if result.requires_grad and not gradient else result


def run_loss(function: Loss, logits: Tensor, save_ctx: SaveContext, modules: JobModules) -> Tensor:
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
