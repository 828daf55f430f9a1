"""Gradients of any tensor of a module's arguments or output, in whatever containers: nested, by keyword, in a dict.
Held against the chain rule by `torch.autograd.grad`, without any hook. No process is started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from patchbay_worker.hooks.attach import attached
from patchbay_worker.hooks.capture import CaptureLog
from patchbay_worker.hooks.editor import Editor
from patchbay_worker.hooks.scope import Rows, RunScope
from patchbay_worker.hooks.selection import TokenView
from patchbay_worker.hooks.spec import CompiledHook, HookSpec, HookType
from patchbay_worker.sharding.collectives import ALONE, HookMesh

Edit = Callable[[Tensor], Tensor]


class Several(nn.Module):
    """Seven leaves come in, of which four are tensors with gradients; three tensors come out."""

    def forward(self, x: Tensor, pair: tuple[Tensor, Tensor], flags: list[Any], *, more: dict[str, Any]) -> Any:
        a, b = pair
        return {"sum": x.cos() + a * 2, "none": None, "parts": (b.sin() * more["scale"], [x * a * b])}


class Outer(nn.Module):
    """All that comes in is also used beside the module, so that only a gradient through it is right."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Several()

    def forward(self, x: Tensor) -> Tensor:
        args, beside = self.arguments(x)
        output = self.inner(*args[:-1], more=args[-1])
        total: Tensor = self.loss(output) + beside
        return total

    @staticmethod
    def arguments(x: Tensor) -> tuple[tuple[Any, ...], Tensor]:
        a, b, scale = x.exp(), x.tanh(), x.sigmoid()
        return (x * 3, (a, b), [torch.tensor(1), None], {"scale": scale}), (a * b).sum()

    @staticmethod
    def loss(output: Any) -> Tensor:
        total: Tensor = (output["sum"] ** 2).sum() + (output["parts"][0] * 3).sum() + (output["parts"][1][0] ** 3).sum()
        return total


TENSORS = {"full_backward": [0, 1, 2, 4], "full_backward_pre": [0, 1, 2]}  # unpackIdx of those with a gradient
CASES = [(kind, index) for kind, indices in TENSORS.items() for index in indices]


class InProcess:
    """Edits of this process in place of the sandbox's."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits = edits

    def edit(
        self,
        *,
        source: int,
        tensor: Tensor,
        current_module: Mapping[str, Any],
        graph: int | None = None,
        timeout_s: float | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Tensor:
        meanwhile()
        return self._edits[source](tensor)

    def rouse(self) -> None:
        pass

    def backward(self, *, gradient: Tensor, **_: Any) -> Tensor:
        """Only edits of values are differentiated, and the one here gives a constant."""
        return torch.zeros_like(gradient)


def hook(name: str, kind: HookType, index: int, module: nn.Module, source: int | None = None) -> CompiledHook:
    spec = HookSpec(name, name, kind, None, index, source, "pre", None, frozenset())
    return CompiledHook(spec, "inner", module, {}, None, "read" if source is None else "root")


def run(x: Tensor, hooks: Callable[[nn.Module], list[CompiledHook]], *edits: Edit) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of x, and what each hook saw."""
    mesh, model = HookMesh(ALONE, ALONE), Outer()
    captures = CaptureLog(mesh)
    scope = RunScope("r", mesh, Editor(InProcess(edits), None), captures, Rows(2, 2))
    scope.begin_call(TokenView(0, [[1, 2, 3], [4, 5, 6]], [0, 0], 3, [3, 3]))
    with attached(hooks(model.inner), scope) as active:
        torch.autograd.backward(model(x))
        for each in active:
            each.finish()
    assert scope.editor.error is None
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(model.inner, kind) for kind in kinds)
    assert x.grad is not None
    return x.grad, {each.hook: each.tensor for each in captures.captures if each.tensor is not None}


def chain_rule(x: Tensor, kind: str, index: int, edit: Edit) -> tuple[Tensor, Tensor]:
    """(gradient of x, that of the leaf before the edit), step by step."""
    args, beside = Outer.arguments(x)
    inside = pytree.tree_map(lambda leaf: leaf.detach().requires_grad_() if _floats(leaf) else leaf, args)
    output = Several()(*inside[:-1], more=inside[-1])
    given, taken = _leaves(inside), _leaves(output)
    chosen = [leaf for leaf in pytree.tree_leaves(inside if kind == "full_backward" else output) if _is_tensor(leaf)]
    of_output = dict(
        zip(map(id, taken), torch.autograd.grad(Outer.loss(output), taken, retain_graph=True), strict=True)
    )
    if kind == "full_backward_pre":
        seen = of_output[id(chosen[index])]
        of_output[id(chosen[index])] = edit(seen)
    grads = [of_output[id(leaf)] for leaf in taken]
    of_input = dict(zip(map(id, given), torch.autograd.grad(taken, given, grads), strict=True))
    if kind == "full_backward":
        seen = of_input[id(chosen[index])]
        of_input[id(chosen[index])] = edit(seen)
    ones = [torch.ones(())]
    (total,) = torch.autograd.grad([*_leaves(args), beside], x, [*(of_input[id(leaf)] for leaf in given), *ones])
    return total, seen


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Tensor)


def _floats(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if _floats(leaf)]


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, 4, requires_grad=True)


@pytest.mark.parametrize(("kind", "index"), CASES)
def test_every_leaf_is_seen_and_edited(x: Tensor, kind: HookType, index: int) -> None:
    def edit(gradient: Tensor) -> Tensor:
        return gradient.flip(-1) * 2 + 0.5

    plain, _ = chain_rule(x, kind, index, lambda gradient: gradient)
    want, seen = chain_rule(x, kind, index, edit)
    got, captured = run(x, lambda inner: [hook("h", kind, index, inner, 0)], edit)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(captured["h"], seen)
    assert (want - plain).abs().max() > 1e-3


def test_hooks_on_one_leaf_chain_in_their_order(x: Tensor) -> None:
    def both(gradient: Tensor) -> Tensor:
        return gradient * 2 + 1

    want, seen = chain_rule(x, "full_backward", 2, both)
    got, captured = run(
        x,
        lambda inner: [
            hook("double", "full_backward", 2, inner, 0),
            hook("other", "full_backward", 1, inner),
            hook("add", "full_backward", 2, inner, 1),
        ],
        lambda gradient: gradient * 2,
        lambda gradient: gradient + 1,
    )
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(captured["add"], seen * 2)
    assert not torch.allclose(seen * 2, seen)


def test_the_gradient_is_that_of_the_edited_tensor(x: Tensor) -> None:
    """An edit of the same leaf comes before it, whichever of the two hooks is named first."""

    def hooks(inner: nn.Module) -> list[CompiledHook]:
        return [hook("g", "full_backward_pre", 1, inner), hook("e", "forward", 1, inner, 0)]

    for order in (hooks, lambda inner: hooks(inner)[::-1]):
        _, captured = run(x, order, torch.zeros_like)
        assert torch.equal(captured["g"], torch.full_like(x, 3.0))


def test_what_has_no_gradient_is_missing(x: Tensor) -> None:
    _, captured = run(
        x, lambda inner: [hook("flag", "full_backward", 3, inner), hook("none", "full_backward", 9, inner)]
    )
    assert captured == {}
