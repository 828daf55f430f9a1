"""The ground truth: the same hooks on the unsharded model, in one process, by plain torch registrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree
from transformers import AutoModelForCausalLM

Edit = Callable[[Tensor], Tensor]


@cache
def plain_model(path: Path) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.eval()


@contextmanager
def _hooked(model: Any, module: str, kind: str, edit: Edit, leaf: int) -> Any:
    def apply(tree: Any) -> Any:
        leaves, spec = _pytree.tree_flatten(tree)
        slot = [index for index, value in enumerate(leaves) if isinstance(value, Tensor)][leaf]
        leaves[slot] = edit(leaves[slot].clone())
        return _pytree.tree_unflatten(leaves, spec)

    target = model.get_submodule(module)
    if kind == "forward":
        handle = target.register_forward_hook(lambda _module, _args, output: apply(output))
    else:
        handle = target.register_forward_pre_hook(lambda _module, args, kwargs: apply((args, kwargs)), with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def plain_logits(
    path: Path, tokens: Sequence[Sequence[int]], *hooks: tuple[str, str, Edit] | tuple[str, str, Edit, int]
) -> Tensor:
    """[B, S, V] of prompts of equal length. A hook is (module, kind, edit) or (module, kind, edit, leaf)."""
    model = plain_model(path)
    with ExitStack() as stack, torch.no_grad():
        for module, kind, edit, *leaf in hooks:
            stack.enter_context(_hooked(model, module, kind, edit, leaf[0] if leaf else 0))
        logits: Tensor = model(torch.tensor(tokens), use_cache=False).logits
    return logits


def plain_reads(path: Path, tokens: Sequence[Sequence[int]], modules: Sequence[str], kind: str) -> dict[str, Tensor]:
    """The first tensor of each module's output or arguments at its first call, from one forward."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, tree: Any) -> None:
        tensors = [leaf for leaf in _pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
        if tensors:
            seen.setdefault(name, tensors[0].clone())

    model = plain_model(path)
    with ExitStack() as stack, torch.no_grad():
        for name in modules:
            target = model.get_submodule(name)
            if kind == "forward":
                handle = target.register_forward_hook(lambda _m, _a, output, name=name: keep(name, output))
            else:
                handle = target.register_forward_pre_hook(
                    lambda _m, args, kwargs, name=name: keep(name, (args, kwargs)), with_kwargs=True
                )
            stack.callback(handle.remove)
        model(torch.tensor(tokens), use_cache=False)
    return seen


def greedy(path: Path, prompt: Sequence[int], count: int, *hooks: tuple[str, str, Edit]) -> list[int]:
    """Teacher-forced: the whole sequence goes through the model for every token, without a cache."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(plain_logits(path, [tokens], *hooks)[0, -1].argmax()))
    return tokens[len(prompt) :]
