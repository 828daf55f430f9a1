"""One hook on one module during one run: what torch's call leads to. Nothing here raises between two collectives."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from patchbay_worker.errors import error
from patchbay_worker.hooks.capture import ACTIVATIONS, GRADIENTS, Capture
from patchbay_worker.hooks.hook_call import HookCall
from patchbay_worker.hooks.part import whole_part
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.hooks.selection import Selection
from patchbay_worker.hooks.spec import CompiledHook, batch_dim
from patchbay_worker.hooks.unpack import PickedLeaf, pick, pick_at
from patchbay_worker.sharding.checksum import is_replicated, is_same_text
from patchbay_worker.sharding.collectives import ShardDims
from patchbay_worker.sharding.layout import ANY, Layout, Site

UNKNOWN = Layout("unknown", reason="this tensor was not there when the model was probed, so its layout is not known")
REPLICATED = Layout("replicated")


class ActiveHook:
    """The methods named `on_..` are torch's callbacks."""

    def __init__(self, hook: CompiledHook, scope: RunScope) -> None:
        self.hook = hook
        self.scope = scope
        self.report = HookReport(scope.run, hook.spec.name, hook.module_name, hook.route)
        self._module_calls = 0
        self._missing = "no-gradient" if hook.spec.of_gradients else "module-not-called"

    def on_forward(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        return self._handle(output)

    def on_forward_pre(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        return self._handle((args, kwargs))

    def differentiable(self, tree: Any) -> PickedLeaf | None:
        """The leaf of a container whose gradient is to be seen; None where no gradient can come."""
        picked = self._pick(tree)
        if not self._copies_agree(picked):
            return None
        if picked is None or not picked.tensor.requires_grad:
            self._missing = "no-tensor"
            return None
        return picked

    def on_gradient(self, flat: int, gradient: Tensor) -> Tensor | None:
        """Of the leaf at `flat`."""
        call, selection = self._begin()
        return self._touch(gradient, flat, selection, call) if selection is not None else None

    def finish(self) -> None:
        """A capture that was asked for and never came gets an entry that says why."""
        spec = self.hook.spec
        if self.scope.mesh.is_root and spec.save != "none" and self.report.calls == 0:
            self.scope.captures.miss(self.capture(None, missing=self._missing))

    def _handle(self, tree: Any) -> Any:
        """The rebuilt tree, or None to leave it as it is."""
        call, selection = self._begin()
        if selection is None:
            return None
        picked = self._pick(tree)
        if not self._copies_agree(picked):
            return None
        if picked is None:
            self._missing = "no-tensor"
            return None
        edited = self._touch(picked.tensor, picked.flat, selection, call)
        return None if edited is None else picked.replaced(edited)

    def _begin(self) -> tuple[int, Selection | None]:
        """The number of this call, and what is chosen of it."""
        call, self._module_calls = self._module_calls, self._module_calls + 1
        selection = self.scope.selection(self.hook.spec.where)
        if selection is None:
            self._missing = "nothing-selected"
        return call, selection

    def _touch(self, tensor: Tensor, flat: int, selection: Selection, call: int) -> Tensor | None:
        """Reads or edits; None to leave the tensor as it is."""
        site = self.hook.leaves.get(flat)
        dims = self._dims(tensor, site)
        if dims is None:
            return None
        # With copies only the root sees all rows, so it is there that tokens are chosen; else before anything moves.
        copies = self.scope.mesh.dp.size > 1
        once = HookCall(self, selection, site, call, copies)
        part = whole_part(tensor, dims.tp, selection) if copies else once.choose(tensor, dims.tp)
        if part is None:
            return None
        self.report.called()
        if not self.hook.spec.edits:
            if self.hook.spec.save != "none":
                once.read(part, ShardDims(part.dim, dims.dp))
            return None
        edited = once.edit(part, ShardDims(part.dim, dims.dp))
        return None if edited is part.value else part.put(edited)

    def _pick(self, tree: Any) -> PickedLeaf | None:
        """By its place in the container: `unpackIdx` means the same tensor whether or not an optional one before it is
        there (the mask of ragged rows).
        """
        site = self.hook.site
        return pick_at(tree, site.flat) if site is not None else pick(tree, self.hook.spec.unpack_idx)

    def _copies_agree(self, picked: PickedLeaf | None) -> bool:
        """Or else a refusal: parts of different tensors would be put together, or a copy would wait for another's."""
        if self.scope.mesh.dp.size == 1:
            return True
        what = ""
        if picked is not None:
            tensor = picked.tensor
            what = f"{picked.flat} {tensor.dtype} {list(tensor.shape)} {tensor.requires_grad}"
        if is_same_text(what, self.scope.mesh.dp, self.scope.view.device):
            return True
        self.poison("PB_NOT_SHARDABLE", "the copies hold different tensors there, or some of them none")
        return False

    def poison(self, code: str, reason: str) -> None:
        """Every rank comes to the same verdict, or the root decides for all, so none waits for another."""
        self.scope.editor.poison(error(code, path=self.hook.spec.path, module=self.hook.module_name, reason=reason))

    def _dims(self, tensor: Tensor, site: Site | None) -> ShardDims | None:
        """How the tensor is cut; None after a refusal."""
        mesh, spec = self.scope.mesh, self.hook.spec
        layout = REPLICATED if mesh.tp.size == 1 else UNKNOWN if site is None else site.layout
        if layout.refused:
            self.poison("PB_NOT_SHARDABLE", layout.reason or layout.kind)
            return None
        if layout.dim is None and spec.of_gradients and not is_replicated(tensor, mesh.tp):
            self.poison("PB_NOT_SHARDABLE", "the ranks hold different gradients of a replicated tensor")
            return None
        rows = spec.dp_dim if spec.dp_dim is not None else batch_dim(site)
        if rows is None and mesh.dp.size > 1:
            # Equal values tell nothing where the dims are not known: the rows of two copies may happen to be equal.
            known = site is not None and ANY not in site.shape
            if not (known and is_replicated(tensor, mesh.dp)):
                reason = "the copies hold different values and no dim is known to hold the batch"
                self.poison("PB_NOT_SHARDABLE", reason)
                return None
        return ShardDims(layout.dim, rows if mesh.dp.size > 1 else None)

    def capture(self, call: int | None, selection: Selection | None = None, missing: str | None = None) -> Capture:
        # Labels are only read on the root, so they are only made there.
        labels = selection.labels if selection is not None and self.scope.mesh.is_root else None
        spec = self.hook.spec
        file = GRADIENTS if spec.of_gradients else ACTIVATIONS
        return Capture(self.scope.run, spec.name, self.hook.module_name, call, labels, missing=missing, file=file)
