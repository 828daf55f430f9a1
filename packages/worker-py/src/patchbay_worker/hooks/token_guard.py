"""Ids outside of an embedding would raise on every rank in the middle of the model and cost the gang; here they end the
job. On while integers are edited: token ids, positions, also where they enter above the embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from patchbay_worker.errors import error
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.hooks.spec import CompiledHook


def _edits_integers(hook: CompiledHook) -> bool:
    is_float = hook.site is not None and getattr(torch, hook.site.dtype).is_floating_point
    return hook.spec.edits and not hook.spec.of_gradients and not is_float


@contextmanager
def guarded_ids(model: nn.Module, hooks: Sequence[CompiledHook], scope: RunScope) -> Iterator[None]:
    """Enter it after the hooks are on: it has to see what they have made."""
    editing = [hook for hook in hooks if _edits_integers(hook)]
    with ExitStack() as stack:
        if editing:
            for module in model.modules():
                if isinstance(module, nn.Embedding):
                    guard = _Guard(module.num_embeddings, editing, scope)
                    stack.callback(module.register_forward_pre_hook(guard.check, with_kwargs=True).remove)
        yield


class _Guard:
    def __init__(self, size: int, editing: Sequence[CompiledHook], scope: RunScope) -> None:
        self._size = size
        self._editing = editing
        self._scope = scope

    def check(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        """All ranks of a copy hold the same ids, and each goes on with ids that exist until the job ends."""
        if not args or not isinstance(args[0], Tensor) or args[0].numel() == 0:
            return None
        lowest, highest = int(args[0].min()), int(args[0].max())
        if lowest >= 0 and highest < self._size:
            return None
        path, token = self._editing[0].spec.path, lowest if lowest < 0 else highest
        self._scope.editor.poison(error("PB_TOKEN_OUT_OF_RANGE", path=path, token=token, size=self._size))
        return (args[0].clamp(0, self._size - 1), *args[1:]), kwargs
