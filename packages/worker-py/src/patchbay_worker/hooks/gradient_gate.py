"""Where gradients are seen and edited: at one tensor of a module's arguments or output, wherever in their containers it
stands. torch's own full backward hooks know only tensors that lie directly in a tuple of positional arguments or
results: none in keywords, dicts, nested tuples, a ModelOutput.

The tensor passes through an identity, so that its gradient is what flows through this module alone. Not here: what is
done with a gradient (active_hook.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from patchbay_worker.hooks.active_hook import ActiveHook


class GradientGate:
    """All gradient hooks of one side of one module. They share the identity, so that they run in their own order: two
    identities would be passed last one first. Register it after the hooks that edit values: a gradient is that of
    the edited tensor.
    """

    def __init__(self, hooks: Sequence[ActiveHook]) -> None:
        self._hooks = hooks

    def register(self, module: nn.Module) -> RemovableHandle:
        if self._hooks[0].hook.spec.kind == "forward":
            return module.register_forward_hook(lambda _module, _args, output: self._through(output))
        return module.register_forward_pre_hook(
            lambda _module, args, kwargs: self._through((args, kwargs)), with_kwargs=True
        )

    def _through(self, tree: Any) -> Any:
        passed: dict[int, Tensor] = {}
        for hook in self._hooks:
            picked = hook.differentiable(tree)
            if picked is None:
                continue
            if picked.flat not in passed:
                passed[picked.flat] = picked.tensor.view_as(picked.tensor)
                tree = picked.replaced(passed[picked.flat])
            passed[picked.flat].register_hook(partial(hook.on_gradient, picked.flat))  # type: ignore[no-untyped-call]
        return tree
