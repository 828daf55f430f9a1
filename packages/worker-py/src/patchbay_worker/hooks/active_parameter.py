"""A hook of type `tensor`: the gradient of one parameter, full. Not here: gradients of activations (active_hook.py)."""

from __future__ import annotations

from torch import Tensor, nn

from patchbay_worker.errors import error
from patchbay_worker.hooks.capture import GRADIENTS, Capture
from patchbay_worker.hooks.move_and_edit import move_and_edit
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.hooks.spec import CompiledHook, Save
from patchbay_worker.sharding.checksum import is_replicated
from patchbay_worker.sharding.collectives import ShardDims, sum_over
from patchbay_worker.sharding.parameters import bytes_from_other_ranks, full_gradient, gradient_shard, is_cut


class ActiveParameter:
    """`on_gradient` is torch's callback; it is called once per backward pass that reaches the parameter."""

    def __init__(self, hook: CompiledHook, parameter: nn.Parameter, scope: RunScope) -> None:
        self.hook = hook
        self.scope = scope
        self.report = HookReport(scope.run, hook.spec.name, hook.module_name, hook.route)
        self._parameter = parameter

    def on_gradient(self, gradient: Tensor) -> Tensor | None:
        call, self.report.calls = self.report.calls, self.report.calls + 1
        full = self._full(gradient.detach())
        if full is None:
            return None
        self.report.gathered_bytes += bytes_from_other_ranks(full, self._parameter)
        if not self.hook.spec.edits:
            if self.scope.mesh.is_root and self.hook.spec.save != "none":
                self.scope.captures.keep(self._capture(call), full, owned=False)
            return None
        edited = move_and_edit(full, ShardDims(), self.scope.mesh, lambda value: self._edit(value, call), self.report)
        return gradient_shard(edited, gradient, self._parameter)

    def _full(self, gradient: Tensor) -> Tensor | None:
        """Over the shards and the rows of all copies; None after a refusal."""
        full, mesh = full_gradient(gradient, self._parameter), self.scope.mesh
        if not is_cut(self._parameter):
            if any(site.layout.kind == "sharded" for site in self.hook.leaves.values()):
                # One weight for all heads, of which each rank has some: transformers leaves the sum to its user.
                full = sum_over(full.clone(), mesh.tp)
            elif not is_replicated(full, mesh.tp):
                reason = "the ranks hold different gradients of a replicated parameter"
                path, name = self.hook.spec.path, self.hook.module_name
                self.scope.editor.poison(error("PB_NOT_SHARDABLE", path=path, module=name, reason=reason))
                return None
        return sum_over(full.clone(), mesh.dp) if mesh.dp.size > 1 else full

    def finish(self) -> None:
        if self.scope.mesh.is_root and self.hook.spec.save != "none" and self.report.calls == 0:
            self.scope.captures.miss(self._capture(None, missing="no-gradient"))

    def _edit(self, full: Tensor, call: int) -> Tensor:
        self._save("pre", full, call)
        facts = {
            "name": self.hook.module_name,
            "class_name": "Parameter",
            "run": self.scope.run,
            "call": call,
            "step": self.scope.view.step,
            "shape": list(full.shape),
        }
        edited = self.scope.editor.run(self.hook, full, facts, self.report)
        self._save("post", edited, call)
        self.report.compare(full, edited, None)
        return edited

    def _save(self, which: Save, value: Tensor, call: int) -> None:
        if self.hook.spec.save == which:
            self.scope.captures.keep(self._capture(call), value, owned=False)

    def _capture(self, call: int | None, missing: str | None = None) -> Capture:
        run, name = self.scope.run, self.hook.spec.name
        return Capture(run, name, self.hook.module_name, call, missing=missing, file=GRADIENTS)
