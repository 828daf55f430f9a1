"""How far the weights have been read, as transformers' own loop over them tells it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers.utils import logging

from patchbay_worker.engine import load_progress
from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.engine.load import load_model
from patchbay_worker.engine.world import join_world
from support.checkpoints import make_checkpoint


def test_weights_are_counted_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_progress, "_PERIOD_S", 0.0)
    config = EngineConfig(str(make_checkpoint(tmp_path / "model", "llama")), "m", 1, 0, 1, "", 0)
    told: list[float] = []
    load_model(config, join_world(config), told.append)
    assert len(told) > 10
    assert told == sorted(told)
    assert 0 < told[0] < 0.2
    assert told[-1] == 1.0


def test_they_are_told_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(load_progress, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(load_progress, "_PERIOD_S", 1.0)
    told: list[float] = []
    with load_progress.weights_told(told.append):
        for _ in logging.tqdm(range(100), desc="Loading weights"):
            now += 0.25
        assert list(logging.tqdm([1, 2], desc="something else")) == [1, 2]
    assert told == [*(part / 20 for part in range(1, 21)), 1.0]
    assert list(logging.tqdm(range(2), desc="Loading weights")) == [0, 1]
    assert len(told) == 21, "nobody listens any more"
