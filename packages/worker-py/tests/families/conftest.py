"""One gang per mesh for all tests of the folder, run mesh by mesh: starting the ranks takes longer than a test."""

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


@pytest.hookimpl(trylast=True)  # pytest's own order goes by the place of a mesh in each test's list
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = [place for place, item in enumerate(items) if isinstance(item, pytest.Function) and _mesh(item)]
    order = list(MESHES)
    by_mesh = sorted((items[place] for place in places), key=lambda item: order.index(_mesh(item)))
    for place, item in zip(places, by_mesh, strict=True):
        items[place] = item


def _mesh(item: pytest.Item) -> str:
    """Empty for tests that need none."""
    call = getattr(item, "callspec", None)
    return str(call.params.get("on", "")) if call is not None else ""
