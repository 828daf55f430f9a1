"""Registers the hooks of a run with torch and takes every one of them away again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn
from torch.utils.hooks import RemovableHandle

from patchbay_worker.hooks.active_hook import ActiveHook
from patchbay_worker.hooks.active_parameter import ActiveParameter
from patchbay_worker.hooks.gradient_gate import GradientGate
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.hooks.spec import CompiledHook
from patchbay_worker.sharding.fsdp import is_managed
from patchbay_worker.sharding.layout import SiteKind

Active = ActiveHook | ActiveParameter


@contextmanager
def attached(hooks: Sequence[CompiledHook], scope: RunScope) -> Iterator[list[Active]]:
    """Hooks on one module chain in the order of `hooks`. On the way out the model is as it was, whatever happened."""
    with ExitStack() as stack:
        active: list[Active] = []
        gates: dict[tuple[nn.Module, SiteKind], list[ActiveHook]] = {}
        for hook in hooks:
            if hook.parameter is not None:
                parameter = ActiveParameter(hook, hook.parameter, scope)
                stack.enter_context(_on_parameter(parameter, hook.parameter))
                active.append(parameter)
            else:
                each = ActiveHook(hook, scope)
                active.append(each)
                if hook.spec.of_gradients:
                    gates.setdefault((hook.module, hook.spec.kind), []).append(each)
                else:
                    stack.callback(_register(each, hook.module).remove)
        for (module, _), group in gates.items():
            stack.callback(GradientGate(group).register(module).remove)
        yield active


def _register(active: ActiveHook, module: nn.Module) -> RemovableHandle:
    if active.hook.spec.kind == "forward":
        return module.register_forward_hook(active.on_forward)
    # Attention is called with keywords only, so the edit must see kwargs too.
    return module.register_forward_pre_hook(active.on_forward_pre, with_kwargs=True)


@contextmanager
def _on_parameter(active: ActiveParameter, parameter: nn.Parameter) -> Iterator[None]:
    """Parameters are frozen but while one of their gradients is asked for."""
    frozen = not parameter.requires_grad
    parameter.requires_grad_(True)
    handle = None
    if is_managed(parameter):
        active.scope.after_backward.append(active.collect)
    else:
        handle = parameter.register_hook(active.on_gradient)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()
        if frozen:
            parameter.requires_grad_(False)
            parameter.grad = None
