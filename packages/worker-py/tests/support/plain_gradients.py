"""The ground truth for gradients: plain autograd on the unsharded model in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from support.plain_hooks import plain_model

Edit = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor], Tensor]


@dataclass
class Gradients:
    """By module: of its output and, through that module alone, of its first input; by name: of parameters."""

    loss: float
    logits: Tensor
    of_output: dict[str, Tensor] = field(default_factory=dict)
    of_input: dict[str, Tensor] = field(default_factory=dict)
    of_parameter: dict[str, Tensor] = field(default_factory=dict)


class _Watch:
    """Hooks on the plain model, and what they have seen."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.outputs: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.handles: list[Any] = []

    def begin(self) -> None:
        embeddings = self.model.get_input_embeddings()
        self.handles.append(embeddings.register_forward_hook(lambda _m, _a, output: output.requires_grad_()))

    def edit(self, name: str, kind: str, edit: Edit) -> None:
        module = self.model.get_submodule(name)
        if kind == "forward":
            handle = module.register_forward_hook(lambda _m, _a, output: _apply(output, edit))
        elif kind == "forward_pre":
            handle = module.register_forward_pre_hook(
                lambda _m, args, kwargs: _apply((args, kwargs), edit), with_kwargs=True
            )
        else:
            handle = module.register_full_backward_pre_hook(lambda _m, gradients: _apply(gradients, edit))
        self.handles.append(handle)

    def watch(self, name: str) -> None:
        module = self.model.get_submodule(name)

        def keep(_module: Any, _args: Any, output: Any) -> None:
            value = output if isinstance(output, Tensor) else output[0]
            if value.requires_grad:
                value.retain_grad()
                self.outputs.setdefault(name, value)

        def keep_input(_module: Any, gradients: Any, _output_gradients: Any) -> None:
            if gradients and gradients[0] is not None:
                self.inputs[name] = gradients[0].clone()

        self.handles += [module.register_forward_hook(keep), module.register_full_backward_hook(keep_input)]

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None


def _apply(tree: Any, edit: Edit) -> Any:
    leaves, spec = _pytree.tree_flatten(tree)
    slot = next(index for index, value in enumerate(leaves) if isinstance(value, Tensor))
    leaves[slot] = edit(leaves[slot])
    return _pytree.tree_unflatten(leaves, spec)


def plain_gradients(
    path: Path,
    tokens: Sequence[Sequence[int]],
    loss: Loss,
    *,
    watched: Sequence[str] = (),
    parameters: Sequence[str] = (),
    edits: Sequence[tuple[str, str, Edit]] = (),
) -> Gradients:
    """An edit is (module, kind, function); the kind full_backward_pre edits the gradient of the module's output."""
    model = plain_model(path)
    model.requires_grad_(False)
    chosen = {name: model.get_parameter(name).requires_grad_(True) for name in parameters}
    watch = _Watch(model)
    watch.begin()
    for module, kind, edit in edits:
        watch.edit(module, kind, edit)
    for name in watched:
        watch.watch(name)
    try:
        with torch.enable_grad():
            logits = model(torch.tensor(tokens), use_cache=False).logits
            value = loss(logits)
            torch.autograd.backward(value)
        of_output = {name: kept.grad.clone() for name, kept in watch.outputs.items() if kept.grad is not None}
        of_parameter = {name: each.grad.clone() for name, each in chosen.items()}
        return Gradients(float(value.detach()), logits.detach(), of_output, watch.inputs, of_parameter)
    finally:
        watch.close()
