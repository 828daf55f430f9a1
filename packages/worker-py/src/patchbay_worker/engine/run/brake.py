"""Stops a job between two layers: every so often the root tells the ranks of its stage whether to go on, and how many
layers until it tells again, so that all of them leave the forward pass at the same place. Later pipeline stages hear
of it where they would have received activations (pipeline/stage.py). Not here: stops between runs
and steps (run_context.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn

from patchbay_worker.engine.pipeline.stage import JobStopped, Stage
from patchbay_worker.engine.world import World
from patchbay_worker.sharding.collectives import broadcast_from_root

#: How long a stop may go unheard; the time of one agreement is nothing against it.
PERIOD_S: Final = 0.05
_LONGEST_STRIDE: Final = 1 << 20


class Brake:
    """One per engine: how many layers go by in a period is learned once, and the same on every rank of the stage."""

    def __init__(self, world: World, model: nn.Module, pipeline: Stage | None) -> None:
        self._world = world
        self._pipeline = pipeline
        # FSDP has more under way between two layers than an exception may cut off: it stops between passes only.
        self._layers = _layers(model) if world.stage == 0 and not world.mesh.fsdp else []
        self._stride = 1
        self._left = 1
        #: Seconds inside of runs since the last agreement, and since when the present run goes on.
        self._spent = 0.0
        self._entered = 0.0

    @contextmanager
    def applied(self, must_stop: Callable[[], bool]) -> Iterator[None]:
        """`must_stop` counts on the root. Raises JobStopped out of the forward pass, on every rank of every stage."""

        def before_layer(_module: nn.Module, _args: Any) -> None:
            self._left -= 1
            if self._left <= 0 and self._agree(must_stop):
                raise JobStopped

        handles = [layer.register_forward_pre_hook(before_layer) for layer in self._layers]
        self._entered = time.monotonic()
        try:
            yield
        except JobStopped:
            if self._pipeline is not None:
                self._pipeline.pass_on_stop()
            raise
        finally:
            self._spent += time.monotonic() - self._entered
            for handle in handles:
                handle.remove()

    def _agree(self, must_stop: Callable[[], bool]) -> bool:
        mesh, message = self._world.edit, [0, 0]
        if self._world.is_root:
            message = [int(must_stop()), self._next_stride()]
        if mesh.size > 1:
            shared = torch.tensor(message, dtype=torch.int64, device=self._world.device)
            if mesh.tp.is_root:
                broadcast_from_root(shared, mesh.dp)
            message = [int(value) for value in broadcast_from_root(shared, mesh.tp).tolist()]
        stop, self._stride = message
        self._left = self._stride
        return stop == 1

    def _next_stride(self) -> int:
        now = time.monotonic()
        per_layer = (self._spent + now - self._entered) / self._stride
        self._spent, self._entered = 0.0, now
        wanted = int(PERIOD_S / per_layer) if per_layer > 0 else _LONGEST_STRIDE
        return max(1, min(wanted, 2 * self._stride, _LONGEST_STRIDE))


def _layers(model: nn.Module) -> list[nn.Module]:
    """The longest list of modules that is not inside of another one: the blocks of a language model."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    outer = [
        module for name, module in lists.items() if not any(name.startswith(f"{other}.") for other in lists if other)
    ]
    longest: list[nn.Module] = []
    for each in outer:
        if len(each) > len(longest):
            longest = list(each)
    return longest
