"""The ground truth for a drawn job: the unsharded model in one process with torch's own registrations. It shares no
code with the product: it pads, chooses tokens, unpacks, edits and differentiates by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial
from inspect import signature
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree

from families.draw import Drawn, Json
from families.edits import plain_edit
from support.checkpoints import PAD

Slots = list[tuple[int, int]]
#: Where the tensor stands whose value or gradient it is.
SIDE: Final = {
    "forward": "forward",
    "full_backward_pre": "forward",
    "forward_pre": "forward_pre",
    "full_backward": "forward_pre",
}


@dataclass
class Plain:
    """`seen` has what each hook saw, or with `save: post` made of it, at every call: the chosen tokens as [n, ..]."""

    logits: Tensor
    seen: dict[str, list[Tensor]] = field(default_factory=dict)
    touched: Counter[str] = field(default_factory=Counter)  # of the chosen tokens of a hook with `where`


def slots(where: Json | None, prompts: list[list[int]]) -> Slots | None:
    """(row, column) of the chosen tokens; None for all of a tensor."""
    if where is None:
        return None
    chosen: Slots = []
    for row in where.get("rows", range(len(prompts))):
        length, positions = len(prompts[row]), where.get("positions")
        if isinstance(positions, dict):
            columns = list(range(length))[slice(positions.get("from"), positions.get("to"))]
        else:
            columns = [place % length for place in positions] if positions is not None else list(range(length))
        chosen += [(row, column) for column in columns]
    return chosen


def on_tree(module: Any, kind: str, apply: Callable[[Any], Any]) -> Any:
    """torch's registration; `apply` gets the output, or (args, kwargs)."""
    if kind == "forward":
        return module.register_forward_hook(lambda _m, _a, output: apply(output))
    return module.register_forward_pre_hook(lambda _m, args, kwargs: apply((args, kwargs)), with_kwargs=True)


@cache
def tensor_places(model: Any, name: str, kind: str) -> list[int]:
    """Which leaves of a module's output or arguments are tensors where rows are ragged and so every optional one is
    there: what `unpackIdx` counts.
    """
    found: list[list[int]] = []

    def look(tree: Any) -> None:
        leaves = _pytree.tree_leaves(tree)
        found.append([place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)])

    handle = on_tree(model.get_submodule(name), kind, look)
    try:
        with torch.no_grad():
            model(**padded(model, [[3, 4], [5]]), use_cache=False)
    finally:
        handle.remove()
    return found[0]


def padded(model: Any, prompts: list[list[int]]) -> Json:
    """On the right, with a mask and positions where the model takes them."""
    width = max(map(len, prompts))
    columns = torch.arange(width).expand(len(prompts), -1)
    mask = (columns < torch.tensor([[len(prompt)] for prompt in prompts])).long()
    ids = torch.tensor([[*prompt, *[PAD] * (width - len(prompt))] for prompt in prompts])
    inputs: Json = {"input_ids": ids, "attention_mask": mask, "position_ids": columns}
    known = signature(model.forward).parameters
    return {key: value for key, value in inputs.items() if key in known}


def _passed(touch: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """A copy whose gradient is touched: what flows through this place alone."""
    if not value.requires_grad:
        return value
    copy = value.clone()
    copy.register_hook(touch)  # type: ignore[no-untyped-call]
    return copy


class PlainRun:
    """Hooks of one job on a model that is whole. `edited` False leaves the edits out and keeps the reads."""

    def __init__(self, model: Any, job: Drawn, *, edited: bool = True) -> None:
        self.model, self.job, self.edited = model, job, edited
        self.prompts = job.prompts
        self.width = max(map(len, self.prompts))
        self.seen: dict[str, list[Tensor]] = {}
        self.touched: Counter[str] = Counter()
        self.places = {  # found before any hook is on
            hook["name"]: tensor_places(model, hook["moduleName"], SIDE[hook["hookType"]])[hook.get("unpackIdx", 0)]
            for hook in job.hooks
            if hook["hookType"] in SIDE
        }

    def run(self, *, masked: bool = True) -> Plain:
        """`masked` False is for a single prompt that needs neither mask nor positions."""
        backward = self.job.run.get("mode") == "backward"
        with ExitStack() as stack, torch.set_grad_enabled(backward):
            if backward:
                stack.callback(self._clean)
                begin = self.model.get_input_embeddings().register_forward_hook(
                    lambda _m, _a, out: out.requires_grad_()
                )
                stack.callback(begin.remove)
            for hook in self._in_order():
                stack.callback(self._register(hook).remove)
            inputs = padded(self.model, self.prompts) if masked else {"input_ids": torch.tensor(self.prompts)}
            logits: Tensor = self.model(**inputs, use_cache=False).logits
            if backward:
                torch.autograd.backward(self._loss(logits.float(), self.job.run["loss"]))
        return Plain(logits.detach(), self.seen, self.touched)

    def _clean(self) -> None:
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    def _loss(self, logits: Tensor, loss: Json) -> Tensor:
        total = logits.new_zeros(())
        for row, prompt in enumerate(self.prompts):
            real = logits[row, : len(prompt)]
            if loss["kind"] == "nextToken":
                total = total + functional.cross_entropy(real[:-1], torch.tensor(prompt[1:]), reduction="sum")
            elif loss["kind"] == "sumLogits":
                total = total + (real[loss["position"]] if "position" in loss else real).sum()
            else:
                at = real[loss.get("position", -1)]
                total = total + at[loss["target"]] - at[loss["foil"]]
        return total / sum(len(prompt) - 1 for prompt in self.prompts) if loss["kind"] == "nextToken" else total

    def _register(self, hook: Json) -> Any:
        kind, touch = hook["hookType"], self._touch(hook)
        if kind == "tensor":
            parameter = self.model.get_parameter(hook["moduleName"]).requires_grad_()
            return parameter.register_hook(touch)
        module, place = self.model.get_submodule(hook["moduleName"]), self.places[hook["name"]]
        apply = touch if kind in ("forward", "forward_pre") else partial(_passed, touch)
        return on_tree(module, SIDE[kind], lambda tree: self._at(tree, place, apply))

    def _in_order(self) -> list[Json]:
        """A gradient is that of the edited value, and comes last first through the copies that are made of it."""
        of_gradients = [hook for hook in self.job.hooks if hook["hookType"] not in ("forward", "forward_pre")]
        return [hook for hook in self.job.hooks if hook not in of_gradients] + of_gradients[::-1]

    @staticmethod
    def _at(tree: Any, place: int, touch: Callable[[Tensor], Tensor]) -> Any:
        leaves, spec = _pytree.tree_flatten(tree)
        if not isinstance(leaves[place], Tensor):
            return None
        leaves[place] = touch(leaves[place])
        return _pytree.tree_unflatten(leaves, spec)

    def _touch(self, hook: Json) -> Callable[[Tensor], Tensor]:
        edit = plain_edit(hook["edit"]["source"]) if self.edited and "edit" in hook else None
        chosen = slots(hook.get("where"), self.prompts)

        def touch(value: Tensor) -> Tensor:
            grid = value
            if chosen is not None and self.job.flat(hook["name"]):
                grid = value.view(len(self.prompts), self.width, *value.shape[1:])
            at = None if chosen is None else tuple(torch.tensor(part) for part in zip(*chosen, strict=True))
            before = grid if at is None else grid[at]
            after = before if edit is None else edit(before)
            kept = after if hook.get("save") == "post" else before
            if at is not None:
                self.touched[hook["name"]] += int((before != after).reshape(len(before), -1).any(-1).sum())
            self.seen.setdefault(hook["name"], []).append(kept.detach().clone())
            if edit is None:
                return value
            return after if at is None else grid.index_put(at, after).view(value.shape)

        return touch
