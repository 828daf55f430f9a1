"""Job documents for tests that do not care what a job computes."""

from __future__ import annotations

from typing import Any


def job(do: str = "nothing", **more: Any) -> dict[str, Any]:
    """A valid document; `do` tells the fake engine what happens."""
    return {"version": 1, "model": "m", "labels": {"do": do}, "runs": [{"inputs": {"text": ["a"]}}], **more}
