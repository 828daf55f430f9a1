"""One call of one hook: which tokens it sees, what moves, what the edit makes of it and of its gradient.

Not here: torch's callbacks and how a tensor is cut (active_hook.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchbay_worker.hooks.capture import Capture
from patchbay_worker.hooks.graph.graph import Graph, Shard
from patchbay_worker.hooks.move_and_edit import move_and_edit, with_gradient
from patchbay_worker.hooks.part import Part, part_of
from patchbay_worker.hooks.selection import Selection
from patchbay_worker.hooks.spec import Save
from patchbay_worker.sharding.collectives import ShardDims
from patchbay_worker.sharding.fsdp import class_name
from patchbay_worker.sharding.layout import Site

if TYPE_CHECKING:
    from patchbay_worker.hooks.active_hook import ActiveHook


class HookCall:
    """One call of one hook. With `copies` the parts that move are whole, and tokens are chosen on the root."""

    def __init__(self, active: ActiveHook, selection: Selection, site: Site | None, number: int, copies: bool) -> None:
        self._active = active
        self._selection = selection
        self._site = site
        self._number = number
        self._copies = copies

    def choose(self, tensor: Tensor, dim: int | None = None) -> Part | None:
        """The chosen tokens of a tensor that holds all rows; None after a refusal."""
        part = part_of(tensor, dim, self._selection, self._site)
        if part is None:
            reason = f"a tensor of shape {list(tensor.shape)} does not hold one row per token"
            self._active.poison("PB_WHERE_UNSUPPORTED", reason)
        return part

    def read(self, part: Part, dims: ShardDims) -> None:
        active = self._active
        captures, mesh = active.scope.captures, active.scope.mesh
        capture = active.capture(self._number, self._selection if part.labelled else None)

        def finish(captured: Capture, full: Tensor) -> Tensor:
            if not self._copies:
                return full
            seen = self.choose(active.scope.rows.take(full, dims.dp))
            if seen is None:
                return full
            captured.labels = self._selection.labels if seen.labelled else None
            return seen.value

        value = active.hook.spec.cast(part.value)  # before it moves
        owned = part.owned or value is not part.value
        if dims.move(mesh):
            captures.gather(capture, value, dims, active.report, finish, owned=owned)
        elif mesh.is_root:
            captures.keep(capture, finish(capture, value), owned=owned)

    def edit(self, part: Part, dims: ShardDims) -> Tensor:
        """This rank's part of the edited tensor; `part.value` itself where nothing came of it."""
        scope, report, own = self._active.scope, self._active.report, self._active.hook.spec.graph
        cut = None if dims.tp is None else dims.tp - part.value.ndim
        if own is not None and self._active.hook.route == "local" and own.is_local(cut):
            return self._edit_here(own, part, cut)
        differentiated = torch.is_grad_enabled() and part.value.is_floating_point()
        graph = scope.editor.new_graph() if differentiated else None

        def edit_once(full: Tensor) -> Tensor:
            if not self._copies:
                return self._run(full, part, graph, fresh=part.owned or full is not part.value)
            return self._on_chosen(full, dims, lambda seen: self._run(seen.value, seen, graph, fresh=seen.owned))

        def pull_back(full: Tensor) -> Tensor:
            assert graph is not None, "only a call with a graph is differentiated"
            number, hook = graph, self._active.hook
            if not self._copies:
                return scope.editor.pull_back(hook, full, number, report)
            # What was not chosen went by the edit, and so does its gradient.
            return self._on_chosen(full, dims, lambda seen: scope.editor.pull_back(hook, seen.value, number, report))

        if graph is None:
            return move_and_edit(part.value, dims, scope.mesh, edit_once, report, scope.editor)
        return with_gradient(
            part.value,
            lambda value, edit: move_and_edit(value, dims, scope.mesh, edit, report, scope.editor),
            edit_once,
            pull_back,
        )

    def _edit_here(self, graph: Graph, part: Part, cut: int | None) -> Tensor:
        """On every rank, of what it holds: nothing moves but what is saved. `cut` is the sharded dim, counted from the
        last one.
        """
        active, value = self._active, part.value
        mesh, save = active.scope.mesh, active.hook.spec.save
        shard = Shard(cut, mesh.tp.rank, mesh.tp.size) if cut is not None else None
        dims = ShardDims(part.dim)
        if save == "pre":
            self.read(part, dims)
        edited = active.scope.editor.compute(graph, value, active.report, shard=shard, padded=part.padded)
        if save == "post":
            self.read(replace(part, value=edited, owned=False), dims)
        if shard is not None or mesh.is_root:
            active.report.edited(value.detach(), edited.detach(), part.mask, part.leading, apart=shard is not None)
            active.report.settle()  # the model may go on to change either of them
        return edited

    def _on_chosen(self, full: Tensor, dims: ShardDims, function: Callable[[Part], Tensor]) -> Tensor:
        """`full`, of all copies and their padding, with the chosen tokens replaced."""
        rows = self._active.scope.rows
        seen = self.choose(rows.take(full, dims.dp))
        return full if seen is None else rows.put(seen.put(function(seen)), full, dims.dp)

    def _run(self, value: Tensor, part: Part, graph: int | None, *, fresh: bool) -> Tensor:
        """Root only: what the edit makes of `value`, which is all of `part`. `fresh` values are nobody else's."""
        active = self._active
        self._save("pre", value, part, owned=fresh)
        editor, own = active.scope.editor, active.hook.spec.graph
        if own is not None:
            edited = editor.compute(own, value, active.report, padded=part.padded, number=graph)
        else:
            edited = editor.run(active.hook, value, self._current_module(value), active.report, graph)
        self._save("post", edited, part, owned=fresh or edited is not value)
        active.report.edited(value, edited, part.mask, part.leading)
        return edited

    def _save(self, which: Save, value: Tensor, part: Part, *, owned: bool) -> None:
        if self._active.hook.spec.save == which:
            capture = self._active.capture(self._number, self._selection if part.labelled else None)
            saved = self._active.hook.spec.cast(value)
            self._active.scope.captures.keep(capture, saved, owned=owned or saved is not value)

    def _current_module(self, full: Tensor) -> dict[str, Any]:
        hook, selection = self._active.hook, self._selection
        return {
            "name": hook.module_name,
            "class_name": class_name(hook.module),
            "training": hook.module.training,
            "run": self._active.scope.run,
            "call": self._number,
            "step": selection.view.step,
            "shape": list(full.shape),
            "batch": selection.batch,
        }
