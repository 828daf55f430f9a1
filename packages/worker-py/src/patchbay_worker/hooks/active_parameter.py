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
from patchbay_worker.sharding.fsdp import is_managed
from patchbay_worker.sharding.parameters import bytes_from_other_ranks, full_gradient, gradient_shard, is_cut


class ActiveParameter:
    """`on_gradient` is torch's callback; it is called once per backward pass that reaches the parameter. Under FSDP2
    the graph runs over another tensor, and the gradient is collected when the pass is over.
    """

    def __init__(self, hook: CompiledHook, parameter: nn.Parameter, scope: RunScope) -> None:
        self.hook = hook
        self.scope = scope
        self.report = HookReport(scope.run, hook.spec.name, hook.module_name, hook.route)
        self._parameter = parameter

    def on_gradient(self, gradient: Tensor) -> Tensor | None:
        call = self.report.called()
        full = self._full(gradient.detach())
        if full is None:
            return None
        self.report.gathered_bytes += bytes_from_other_ranks(full, self._parameter)
        if not self.hook.spec.edits:
            if self.scope.mesh.is_root and self.hook.spec.save != "none":
                self.scope.captures.keep(self._capture(call), self.hook.spec.cast(full), owned=False)
            return None
        mesh, editor = self.scope.mesh, self.scope.editor
        if self.hook.spec.graph is not None:  # every rank has all of the gradient
            return gradient_shard(self._edit(full, call), gradient, self._parameter)
        edited = move_and_edit(full, ShardDims(), mesh, lambda value: self._edit(value, call), self.report, editor)
        return gradient_shard(edited, gradient, self._parameter)

    def collect(self) -> None:
        """FSDP2 has left the mean over the copies."""
        gradient, self._parameter.grad = self._parameter.grad, None
        if gradient is not None:
            self.on_gradient(gradient * self.scope.mesh.dp.size)

    def _full(self, gradient: Tensor) -> Tensor | None:
        """Over the shards and the rows of all copies; None after a refusal."""
        full, mesh = full_gradient(gradient, self._parameter), self.scope.mesh
        if not is_cut(self._parameter):
            equal = is_replicated(full, mesh.tp)
            if any(site.layout.kind == "sharded" for site in self.hook.leaves.values()):
                # One weight for all heads, of which each rank has some. transformers sums what it finds in `grad` when
                # the module is done: nothing yet where torch calls this hook, the parts where FSDP2 reduces them.
                full = full if equal and is_managed(self._parameter) else sum_over(full.clone(), mesh.tp)
            elif not equal:
                reason = "the ranks hold different gradients of a replicated parameter"
                path, name = self.hook.spec.path, self.hook.module_name
                self.scope.editor.poison(error("PB_NOT_SHARDABLE", path=path, module=name, reason=reason))
                return None
        is_summed = mesh.dp.size == 1 or is_managed(self._parameter)
        return full if is_summed else sum_over(full.clone(), mesh.dp)

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
        editor, graph = self.scope.editor, self.hook.spec.graph
        edited = (
            editor.compute(graph, full, self.report)
            if graph is not None
            else editor.run(self.hook, full, facts, self.report)
        )
        self._save("post", edited, call)
        self.report.edited(full, edited, None)
        return edited

    def _save(self, which: Save, value: Tensor, call: int) -> None:
        if self.hook.spec.save == which and self.scope.mesh.is_root:
            self.scope.captures.keep(self._capture(call), self.hook.spec.cast(value), owned=False)

    def _capture(self, call: int | None, missing: str | None = None) -> Capture:
        run, name = self.scope.run, self.hook.spec.name
        return Capture(run, name, self.hook.module_name, call, missing=missing, file=GRADIENTS)
