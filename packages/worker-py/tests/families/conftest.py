"""One gang per mesh for all tests of the folder; pytest runs the tests of a mesh together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from families.drawn_page import MESHES
from support.gang import Gang


@dataclass(frozen=True)
class OnMesh:
    mesh: str
    gang: Gang


@pytest.fixture(scope="session", params=MESHES)
def on(request: pytest.FixtureRequest) -> Iterator[OnMesh]:
    with Gang(**MESHES[request.param]) as gang:
        yield OnMesh(request.param, gang)
