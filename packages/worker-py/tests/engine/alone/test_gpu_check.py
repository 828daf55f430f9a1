"""scripts/gpu-check as far as a machine without a GPU can tell: its rows, and that a part that breaks fails it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

PATH = Path(__file__).parents[5] / "bench/gpu_check.py"


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["gpu_check"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["gpu-check", "--device", "cpu", "--families", "llama", "--out", str(out)])
    return gpu_check.main(), (out / "gpu-check.md").read_text(encoding="utf-8")


def test_every_part_prints_its_rows_and_all_hold(
    gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "ROUNDS", 2)
    monkeypatch.setattr(gpu_check, "TOLERANCE", {"float32": gpu_check.TOLERANCE["float32"]})
    code, page = run(gpu_check, monkeypatch, tmp_path)
    assert code == 0, page
    for row in (
        "gloo moves bfloat16",
        "python edit equals a plain hook",
        "refused: tokens from NaN",
        "a pass with one read",
    ):
        assert row in page
    assert "## llama, float32" in page


@pytest.mark.parametrize("part", ["edits", "refusals", "speed", "collectives"])
def test_a_part_that_breaks_fails_the_command_and_no_other_part(
    gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str
) -> None:
    def breaks(*_: Any) -> Any:
        raise RuntimeError("no kernel image")

    def holds(*_: Any) -> Any:
        return [gpu_check.Row("holds", "1", holds=True)]

    monkeypatch.setattr(gpu_check, "Bench", lambda *_: Mock())
    for name in ("edits", "refusals", "gradients", "training_and_generation", "placement", "speed", "collectives"):
        monkeypatch.setattr(gpu_check, name, breaks if name == part else holds)
    code, page = run(gpu_check, monkeypatch, tmp_path)
    assert code == 1
    assert "RuntimeError: no kernel image | **does not hold**" in page
    assert "| holds | 1 | holds |" in page
