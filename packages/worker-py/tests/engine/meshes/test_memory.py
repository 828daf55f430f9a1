"""What a shard is said to need before the load, from the checkpoint's headers, is what it holds after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import make_checkpoint
from support.gang import Gang

CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"tp": 1}),
    ("llama", {"tp": 2}),
    ("llama", {"tp": 1, "pp": 2}),
    ("llama", {"tp": 1, "dp": 2, "fsdp": True}),
    ("mixtral", {"tp": 2, "experts": True}),
]


@pytest.mark.parametrize(("family", "mesh"), CASES, ids=[f"{name} {mesh}" for name, mesh in CASES])
def test_needed_is_held(family: str, mesh: dict[str, Any], tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / "model", family)
    with Gang(**mesh) as gang:
        gang.load(path)
        for rank, memory in enumerate(gang.memory()):
            needed, held = memory["neededBytes"], memory["heldBytes"]
            # Buffers are held besides: a few hundred bytes of frequencies.
            assert 0 < held - needed < 0.01 * held or needed == held, f"rank {rank}: needed {needed}, holds {held}"
