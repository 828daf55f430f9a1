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
from patchbay_worker.sharding.collectives import tell_all


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
        """The shards of a copy hold the same ids, the copies do not; each goes on with ids that exist until the job
        ends.
        """
        if not args or not isinstance(args[0], Tensor) or args[0].numel() == 0:
            return None
        found = [int(args[0].min()), int(args[0].max())]
        ends = [end for each in tell_all(found, self._scope.mesh.dp, args[0].device) for end in each]
        wrong = next((token for token in ends if not 0 <= token < self._size), None)
        if wrong is None:
            return None
        path = self._editing[0].spec.path
        self._scope.editor.poison(error("PB_TOKEN_OUT_OF_RANGE", path=path, token=wrong, size=self._size))
        return (args[0].clamp(0, self._size - 1), *args[1:]), kwargs
