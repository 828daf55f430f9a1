"""A seeded sample of docs/models.md; PATCHBAY_SEED chooses another one, `npm run models` does all of it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from families.conftest import OnMesh
from families.page import MESHES, PAGE, cell, details, row
from patchbay_worker.errors import PatchbayError
from support.checkpoints import FAMILIES

COUNT = 1  # of each mesh
CHOICE = random.Random(os.environ.get("PATCHBAY_SEED", "0"))
SAMPLE = {mesh: CHOICE.sample(list(FAMILIES), COUNT) for mesh in MESHES}


@pytest.mark.parametrize("on", MESHES, indirect=True)
def test_the_page_is_true(on: OnMesh, tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for family in SAMPLE[on.mesh]:
        found = cell(on.gang, family, tmp_path)
        assert row(family, on.mesh, found) in page.splitlines(), "run `npm run models`"
        if not isinstance(found, PatchbayError):
            assert all(line in page for line in details(on.mesh, found))


def test_every_architecture_and_mesh_has_a_row() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for family in FAMILIES:
        for mesh in MESHES:
            assert any(line.startswith(f"| {family} | ") and f" | {mesh} | " in line for line in page.splitlines())
