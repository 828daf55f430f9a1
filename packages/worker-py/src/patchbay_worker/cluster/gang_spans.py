"""The spans of a traced job as the supervisor saw it, with those of the ranks put where they must have been: the ranks'
clocks are their own, so what they tell is set in the middle of the time between the frame to them and their answer.
"""

from __future__ import annotations

import json
import time
from typing import Any


class GangSpans:
    """Begins when the start of the job arrives."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._sent = self._started
        self._ranks: dict[int, dict[str, Any]] = {}

    def sent(self) -> None:
        """The ranks are told now."""
        self._sent = time.perf_counter()

    def take(self, rank: int, told: bytes) -> None:
        span = json.loads(told)
        begun, heard, lasted = self._ms(self._sent), self._ms(time.perf_counter()), float(span["endMs"])
        starts = begun + max(0.0, heard - begun - lasted) / 2
        self._ranks[rank] = {**span, "startMs": round(starts, 3), "endMs": round(min(starts + lasted, heard), 3)}

    def to_json(self) -> bytes:
        ranks = [self._ranks[rank] for rank in sorted(self._ranks)]
        gang = {"name": "gang", "startMs": 0, "endMs": round(self._ms(time.perf_counter()), 3), "children": ranks}
        return json.dumps(gang, separators=(",", ":")).encode()

    def _ms(self, moment: float) -> float:
        return (moment - self._started) * 1e3
