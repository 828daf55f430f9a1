"""Registers the hooks of a run with torch and takes every one of them away again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from patchbay_worker.hooks.active_hook import ActiveHook
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.hooks.spec import CompiledHook


@contextmanager
def attached(hooks: Sequence[CompiledHook], scope: RunScope) -> Iterator[list[ActiveHook]]:
    """Hooks on one module chain in the order of `hooks`. On the way out the model is as it was, whatever happened."""
    active = [ActiveHook(hook, scope) for hook in hooks]
    handles = []
    try:
        for each in active:
            module = each.hook.module
            if each.hook.spec.kind == "forward_pre":
                # Attention is called with keywords only, so the edit must see kwargs too.
                handles.append(module.register_forward_pre_hook(each.on_forward_pre, with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(each.on_forward))
        yield active
    finally:
        for handle in handles:
            handle.remove()
