"""How often the ranks agree to go on, by a clock of the test's own: one layer takes a millisecond."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from torch import Tensor, nn, ones

from patchbay_worker.engine.pipeline.stage import JobStopped
from patchbay_worker.engine.run import brake
from patchbay_worker.engine.run.brake import Brake

LAYERS = 4
VALUE = ones(1)


class Layer(nn.Module):
    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, value: Tensor) -> Tensor:
        self.clock[0] += 1e-3
        return value


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> nn.ModuleList:
    clock = [0.0]
    monkeypatch.setattr(brake, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return nn.ModuleList(Layer(clock) for _ in range(LAYERS))


def brake_of(layers: nn.ModuleList) -> Brake:
    model = nn.Module()
    model.layers = layers
    alone: Any = SimpleNamespace(stage=0, mesh=SimpleNamespace(fsdp=False), is_root=True, edit=SimpleNamespace(size=1))
    return Brake(alone, model, None)


def passes(layers: nn.ModuleList, count: int) -> int:
    """How many layers have run."""
    for _ in range(count):
        for layer in layers:
            layer(VALUE)
    return count * LAYERS


def test_the_ranks_agree_about_every_period(layers: nn.ModuleList) -> None:
    asked = Mock(return_value=False)
    with brake_of(layers).applied(asked):
        ran = passes(layers, 1000)
    periods = ran * 1e-3 / brake.PERIOD_S
    assert periods <= asked.call_count <= periods + 10  # it begins with every layer and doubles the distance


def test_a_stop_is_heard_within_a_period(layers: nn.ModuleList) -> None:
    one = brake_of(layers)
    with one.applied(lambda: False):
        passes(layers, 100)
    clock = cast(Layer, layers[0]).clock
    asked_at = clock[0]
    with pytest.raises(JobStopped), one.applied(lambda: True):
        passes(layers, 1000)
    assert clock[0] - asked_at <= 1.1 * brake.PERIOD_S
    assert not any(layer._forward_pre_hooks for layer in layers), "none is left on the model"
