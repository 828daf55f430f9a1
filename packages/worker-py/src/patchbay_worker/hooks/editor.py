"""Runs the job's edits on the root, each exactly once. It never raises: a failed edit gives back its input and poisons
the job, so that the root completes the collective that other ranks wait in; later edits are skipped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from torch import Tensor

from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.hooks.spec import CompiledHook

Work = Callable[[], None]


class EditSandbox(Protocol):
    """What every stage uses of sandbox.client.SandboxJob."""

    def edit(
        self,
        *,
        source: int,
        tensor: Tensor,
        current_module: Mapping[str, Any],
        graph: int | None = None,
        timeout_s: float | None = None,
        meanwhile: Work = lambda: None,
    ) -> Tensor:
        """`meanwhile` is done while the job works."""

    def backward(
        self, *, source: int, gradient: Tensor, graph: int, shape: tuple[int, ...], timeout_s: float | None = None
    ) -> Tensor: ...

    def rouse(self) -> None:
        """An edit will come in a moment."""


class HomeSandbox(EditSandbox, Protocol):
    """What only the home rank uses."""

    def loss(self, *, source: int, logits: Tensor, graph: int, timeout_s: float | None = None) -> Tensor: ...
    def release(self) -> None: ...
    def begin_training(self, options: Mapping[str, Any]) -> None: ...
    def step(self) -> None: ...
    def checkpoint(self) -> tuple[dict[str, Tensor], list[str]]: ...
    def restore(self, saved: Mapping[str, Tensor]) -> None: ...


class Editor:
    """One per job. `error` is the first failure: the job ends with it at the next agreement point."""

    def __init__(
        self,
        sandbox: EditSandbox | None,
        deadline_s: float | None,
        *,
        stage: int = 0,
        on_poison: Callable[[PatchbayError], None] = lambda _: None,
    ) -> None:
        self._sandbox = sandbox
        self._deadline_s = deadline_s  # unix time
        self._graphs = stage << 32  # stages share one sandbox and so one set of numbers
        self._on_poison = on_poison
        self._lock = threading.Lock()
        self._postponed: Work | None = None
        self.error: PatchbayError | None = None

    def rouse(self) -> None:
        """The tensor of an edit is on its way here."""
        if self._sandbox is not None and self.error is None:
            self._sandbox.rouse()

    def postpone(self, work: Work) -> None:
        """For the time that the next edit takes, in which this rank has nothing to do. Whoever needs it earlier does
        it, so a second time it must do nothing.
        """
        self._catch_up()
        self._postponed = work

    def _catch_up(self) -> None:
        work, self._postponed = self._postponed, None
        if work is not None:
            work()

    def poison(self, reason: PatchbayError) -> None:
        """`on_poison` hears the first reason."""
        _forget_frames(reason)
        if self.error is None:
            self.error = reason
            self._on_poison(reason)

    def new_graph(self) -> int:
        """A number for a call that will be differentiated."""
        self._graphs += 1
        return self._graphs

    def run(
        self, hook: CompiledHook, value: Tensor, call: Mapping[str, Any], report: HookReport, graph: int | None = None
    ) -> Tensor:
        """The edited tensor, on the device of `value`; `value` itself when there is nothing to use."""
        source = hook.spec.source
        if source is None:
            return value

        return self._timed(
            lambda sandbox, left: sandbox.edit(
                source=source,
                tensor=value.detach(),
                current_module=call,
                graph=graph,
                timeout_s=left,
                meanwhile=self._catch_up,
            ),
            value,
            report,
        )

    def pull_back(self, hook: CompiledHook, gradient: Tensor, graph: int, report: HookReport) -> Tensor:
        """Gradient of an edit's input from that of its output, which has the same shape and dtype."""
        source, shape = hook.spec.source, tuple(gradient.shape)
        if source is None:
            return gradient
        return self._timed(
            lambda sandbox, left: sandbox.backward(
                source=source, gradient=gradient, graph=graph, shape=shape, timeout_s=left
            ),
            gradient,
            report,
        )

    def loss(self, source: int, logits: Tensor, graph: int) -> Tensor:
        """A scalar of the dtype of the logits; NaN when there is nothing to use."""
        return self.attempt(
            lambda sandbox, left: cast(HomeSandbox, sandbox).loss(
                source=source, logits=logits, graph=graph, timeout_s=left
            ),
            logits.new_full((), float("nan")),
        )

    def loss_gradient(self, source: int, gradient: Tensor, graph: int, logits: Tensor) -> Tensor:
        """Gradient of the logits for that of the scalar."""
        return self.attempt(
            lambda sandbox, left: sandbox.backward(
                source=source, gradient=gradient, graph=graph, shape=tuple(logits.shape), timeout_s=left
            ),
            logits.new_zeros(logits.shape),
        )

    def tell(self, what: Callable[[HomeSandbox], None]) -> None:
        """Home rank: asks the sandbox for something that gives nothing back."""
        if self.error is not None or self._sandbox is None:
            return
        try:
            with self._lock:
                what(cast(HomeSandbox, self._sandbox))
        except Exception as failure:
            self.poison(_typed(failure))

    def ask(self, what: Callable[[EditSandbox, float | None], Tensor]) -> Tensor:
        """What the sandbox gives in the time left; from any thread. A failure poisons the job and is raised, typed."""
        if self._sandbox is None:
            raise error("PB_INTERNAL", reason="an edit in a job without a sandbox")
        if self.error is not None:
            raise self.error
        try:
            with self._lock:
                return what(self._sandbox, self._remaining())
        except Exception as failure:  # an internal fault must not leave other ranks waiting
            problem = _typed(failure)
            self.poison(problem)
            raise problem from failure

    def attempt(self, what: Callable[[EditSandbox, float | None], Tensor], otherwise: Tensor) -> Tensor:
        """As `ask`, on the device of `otherwise`; that itself after any failure."""
        if self._sandbox is None:
            return otherwise
        try:
            return self.ask(what).to(otherwise.device)
        except PatchbayError as problem:
            _forget_frames(problem)
            return otherwise

    def _timed(
        self, what: Callable[[EditSandbox, float | None], Tensor], otherwise: Tensor, report: HookReport
    ) -> Tensor:
        started = time.perf_counter()
        try:
            return self.attempt(what, otherwise)
        finally:
            report.took("edit", started)

    def _remaining(self) -> float | None:
        """Seconds to the job's deadline; the sandbox keeps the edit's own limit besides."""
        return None if self._deadline_s is None else max(self._deadline_s - time.time(), 0.001)


def _typed(failure: Exception) -> PatchbayError:
    if isinstance(failure, PatchbayError):
        return failure
    return error("PB_SANDBOX_FAILED", reason=f"{type(failure).__name__}: {failure}")


def _forget_frames(problem: BaseException) -> None:
    """`error` outlives the pass. The frames of a traceback hold its tensors, whose graphs hold the editor again by way
    of torch, where the collector of Python does not see that this is a circle.
    """
    chain: list[BaseException | None] = [problem]
    seen: set[int] = set()
    while chain:
        each = chain.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            chain += [each.__cause__, each.__context__]
