"""One hook on one module during one run: what torch's call leads to. Nothing here raises between two collectives."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from patchbay_worker.errors import error
from patchbay_worker.hooks.capture import Capture
from patchbay_worker.hooks.move_and_edit import edit_broadcast, gather_edit_scatter
from patchbay_worker.hooks.part import Part, part_of
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.hooks.selection import Selection
from patchbay_worker.hooks.spec import CompiledHook, Save
from patchbay_worker.hooks.unpack import PickedLeaf, pick
from patchbay_worker.sharding.layout import Layout

UNKNOWN = Layout("unknown", reason="this tensor was not there when the model was probed, so its layout is not known")
REPLICATED = Layout("replicated")


class ActiveHook:
    """`on_forward` and `on_forward_pre` are torch's callbacks."""

    def __init__(self, hook: CompiledHook, scope: RunScope) -> None:
        self.hook = hook
        self.scope = scope
        self.report = HookReport(scope.run, hook.spec.name, hook.module_name, hook.route)
        self._module_calls = 0
        self._missing = "module-not-called"

    def on_forward(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        return self._handle(output)

    def on_forward_pre(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        return self._handle((args, kwargs))

    def finish(self) -> None:
        """A capture that was asked for and never came gets an entry that says why."""
        spec = self.hook.spec
        if self.scope.group.is_root and spec.save != "none" and self.report.calls == 0:
            self.scope.captures.miss(self._capture(None, None, missing=self._missing))

    def _handle(self, tree: Any) -> Any:
        """The rebuilt tree, or None to leave it as it is."""
        call, self._module_calls = self._module_calls, self._module_calls + 1
        picked = pick(tree, self.hook.spec.unpack_idx)
        if picked is None:
            self._missing = "no-tensor"
            return None
        selection = self.scope.selection(self.hook.spec.where)
        if selection is None:
            self._missing = "nothing-selected"
            return None
        layout = self._layout(picked)
        if layout.refused:
            self._poison("PB_NOT_SHARDABLE", layout.reason or layout.kind)
            return None
        part = part_of(picked.tensor, layout.dim, selection, self.hook.leaves.get(picked.flat))
        if part is None:
            reason = f"a tensor of shape {list(picked.tensor.shape)} does not hold one row per token"
            self._poison("PB_WHERE_UNSUPPORTED", reason)
            return None
        self.report.calls += 1
        if not self.hook.spec.edits:
            self._read(part, selection, call)
            return None
        edited = self._edit(part, selection, call)
        return None if edited is part.value else picked.replaced(part.put(edited))

    def _poison(self, code: str, reason: str) -> None:
        """Every rank comes to the same verdict here, so none waits for another."""
        self.scope.editor.poison(error(code, path=self.hook.spec.path, module=self.hook.module_name, reason=reason))

    def _layout(self, picked: PickedLeaf) -> Layout:
        if self.scope.group.size == 1:
            return REPLICATED
        site = self.hook.leaves.get(picked.flat)
        return UNKNOWN if site is None else site.layout

    def _read(self, part: Part, selection: Selection, call: int) -> None:
        if self.hook.spec.save == "none":
            return
        captures = self.scope.captures
        capture = self._capture(call, selection if part.labelled else None)
        if part.dim is not None:
            captures.gather(capture, part.value, part.dim, self.report, owned=part.owned)
        elif self.scope.group.is_root:
            captures.keep(capture, part.value, owned=part.owned)

    def _edit(self, part: Part, selection: Selection, call: int) -> Tensor:
        def edit_once(full: Tensor) -> Tensor:
            fresh = part.owned or full is not part.value
            self._save("pre", full, part, selection, call, owned=fresh)
            edited = self.scope.editor.run(self.hook, full, self._current_module(full, selection, call), self.report)
            self._save("post", edited, part, selection, call, owned=fresh or edited is not full)
            self.report.compare(full, edited, part.mask)
            return edited

        if part.dim is not None:
            return gather_edit_scatter(part.value, part.dim, self.scope.group, edit_once, self.report)
        return edit_broadcast(part.value, self.scope.group, edit_once, self.report)

    def _save(self, which: Save, value: Tensor, part: Part, selection: Selection, call: int, *, owned: bool) -> None:
        if self.hook.spec.save == which:
            capture = self._capture(call, selection if part.labelled else None)
            self.scope.captures.keep(capture, value, owned=owned)

    def _capture(self, call: int | None, selection: Selection | None, missing: str | None = None) -> Capture:
        # Labels are only read on the root, so they are only made there.
        labels = selection.labels if selection is not None and self.scope.group.is_root else None
        spec = self.hook.spec
        return Capture(self.scope.run, spec.name, self.hook.module_name, call, labels, missing=missing)

    def _current_module(self, full: Tensor, selection: Selection, call: int) -> dict[str, Any]:
        module = self.hook.module
        return {
            "name": self.hook.module_name,
            "class_name": type(module).__name__,
            "training": module.training,
            "run": self.scope.run,
            "call": call,
            "step": selection.view.step,
            "shape": list(full.shape),
            "batch": selection.batch,
        }
