"""Runs the job's edits on the root, each exactly once. It never raises: a failed edit gives back its input and poisons
the job, so that the root completes the collective that other ranks wait in; later edits are skipped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, cast

import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.hooks.graph.check import run_checked
from patchbay_worker.hooks.graph.graph import Graph, Shard
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.hooks.spec import CompiledHook

Work = Callable[[], None]
POSTPONED_BYTES: Final = 32 << 20
POSTPONED_LEAST: Final = 64 << 10
"""What the smallest one counts for, so that they are not many."""


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
        self._postponed: deque[tuple[Work, int]] = deque()
        self._postponed_bytes = 0
        self._computed: dict[int, tuple[Tensor, Tensor]] = {}
        self.error: PatchbayError | None = None

    def rouse(self) -> None:
        """The tensor of an edit is on its way here."""
        if self._sandbox is not None and self.error is None:
            self._sandbox.rouse()

    def postpone(self, work: Work, nbytes: int) -> None:
        """To the end of the run, where many in a row cost less than each between two layers. What keeps more than
        POSTPONED_BYTES in memory is done while edits are waited for. Whoever needs it earlier does it, so a second time
        it must do nothing.
        """
        self._postponed.append((work, max(nbytes, POSTPONED_LEAST)))
        self._postponed_bytes += self._postponed[-1][1]

    def _catch_up(self) -> None:
        while self._postponed_bytes > POSTPONED_BYTES:
            work, nbytes = self._postponed.popleft()
            self._postponed_bytes -= nbytes
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

    def compute(
        self,
        graph: Graph,
        value: Tensor,
        report: HookReport,
        *,
        shard: Shard | None = None,
        padded: int = 0,
        number: int | None = None,
    ) -> Tensor:
        """What a graph edit makes of `value`, which may be a shard; `value` itself when there is nothing to use. With
        `number` the call can be differentiated by `pull_back`.
        """
        self._catch_up()
        if self.error is not None:
            return value
        started = time.perf_counter()
        try:
            if number is None:
                return run_checked(graph, value, shard, padded)
            with torch.enable_grad():
                source = value.detach().requires_grad_()
                result = run_checked(graph, source, shard, padded)
            self._computed[number] = source, result
            return result.detach()
        except Exception as failure:  # an internal fault must not leave other ranks waiting
            self.poison(_typed(failure))
            return value
        finally:
            report.took("edit", started)

    def _pull_back_computed(self, number: int, gradient: Tensor, report: HookReport) -> Tensor:
        if self.error is not None or number not in self._computed:
            return gradient
        started = time.perf_counter()
        source, result = self._computed.pop(number)
        if not result.requires_grad:
            return torch.zeros_like(gradient)
        try:
            (found,) = torch.autograd.grad(result, source, gradient, materialize_grads=True)
            return found
        except Exception as failure:  # other ranks wait for what comes of it
            self.poison(_typed(failure))
            return gradient
        finally:
            report.took("edit", started)

    def end_run(self) -> None:
        """Forgets graphs of calls that no gradient came to, and what was postponed: all reports are read next."""
        self._computed.clear()
        self._postponed.clear()
        self._postponed_bytes = 0

    def pull_back(self, hook: CompiledHook, gradient: Tensor, graph: int, report: HookReport) -> Tensor:
        """Gradient of an edit's input from that of its output, which has the same shape and dtype."""
        if hook.spec.graph is not None:
            return self._pull_back_computed(graph, gradient, report)
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
