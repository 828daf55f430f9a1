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
    """By module: of the first tensor of its output and, through that module alone, of the first of its arguments; by
    name: of parameters.
    """

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

        def keep(_module: Any, _args: Any, output: Any) -> Any:
            return _kept(output, name, self.outputs)

        def keep_input(_module: Any, args: Any, kwargs: Any) -> Any:
            return _kept((args, kwargs), name, self.inputs)

        self.handles += [
            module.register_forward_hook(keep),
            module.register_forward_pre_hook(keep_input, with_kwargs=True),
        ]

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None


def _kept(tree: Any, name: str, found: dict[str, Tensor]) -> Any:
    """The tree with a copy of its first tensor, whose gradient comes through this place alone."""
    leaves, _ = _pytree.tree_flatten(tree)
    first = next((leaf for leaf in leaves if isinstance(leaf, Tensor)), None)
    if first is None or not first.requires_grad:
        return tree
    found[name] = first.clone()
    found[name].retain_grad()
    return _apply(tree, lambda _: found[name])


def _apply(tree: Any, edit: Edit) -> Any:
    leaves, spec = _pytree.tree_flatten(tree)
    slot = next(index for index, value in enumerate(leaves) if isinstance(value, Tensor))
    leaves[slot] = edit(leaves[slot])
    return _pytree.tree_unflatten(leaves, spec)


def _gradients(kept: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.grad.clone() for name, value in kept.items() if value.grad is not None}


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
        of_output, of_input = (_gradients(each) for each in (watch.outputs, watch.inputs))
        of_parameter = {name: each.grad.clone() for name, each in chosen.items()}
        return Gradients(float(value.detach()), logits.detach(), of_output, of_input, of_parameter)
    finally:
        watch.close()
