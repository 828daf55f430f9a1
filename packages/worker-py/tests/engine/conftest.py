"""Gangs are started once per tp for all tests of the engine; models are made once per family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkpoints import make_checkpoint
from support.gang import Gang


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="session", params=[1, 2, 4], ids=lambda tp: f"tp{tp}")
def gang(request: pytest.FixtureRequest, llama: Path) -> Iterator[Gang]:
    """Every mesh in turn."""
    with Gang(request.param) as started:
        started.load(llama)
        yield started


@pytest.fixture(scope="session")
def pair(llama: Path) -> Iterator[Gang]:
    """tp 2, for what does not depend on the mesh's size."""
    with Gang(2) as started:
        started.load(llama)
        yield started


@pytest.fixture(scope="module")
def bare_pair() -> Iterator[Gang]:
    """tp 2 without a model: for tests that load their own."""
    with Gang(2) as started:
        yield started


@pytest.fixture(scope="module")
def bare_single() -> Iterator[Gang]:
    with Gang(1) as started:
        yield started
