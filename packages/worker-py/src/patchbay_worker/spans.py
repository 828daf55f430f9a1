"""What one process did in a job, and when by its own clock: a tree that a trace is drawn from. Not here: who draws."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

#: Of one job in one process; a job of many runs and hooks tells of the first ones.
MAX_SPANS: Final = 1000


@dataclass
class Span:
    """`started` and `ended` are of `time.perf_counter`."""

    name: str
    started: float
    ended: float
    attributes: dict[str, Any] = field(default_factory=dict)
    children: list[Span] = field(default_factory=list)

    def to_json(self, origin: float) -> dict[str, Any]:
        """Times count from the start of the span around it, so that a whole tree can be put anywhere."""
        told: dict[str, Any] = {
            "name": self.name,
            "startMs": round((self.started - origin) * 1e3, 3),
            "endMs": round((self.ended - origin) * 1e3, 3),
        }
        if self.attributes:
            told["attributes"] = self.attributes
        if self.children:
            told["children"] = [child.to_json(self.started) for child in self.children]
        return told


class SpanLog:
    """Begins when it is made, and keeps nothing unless the job is traced."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._started = time.perf_counter()
        self._spans: list[Span] = []
        self._left = MAX_SPANS

    def add(self, span: Span) -> None:
        if not self.wanted or self._left <= 0:
            return
        span.children = span.children[: self._left - 1]
        self._left -= 1 + len(span.children)
        self._spans.append(span)

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(Span(name, started, time.perf_counter()))

    def to_json(self, name: str) -> dict[str, Any]:
        """All of it, from the beginning until now."""
        return Span(name, self._started, time.perf_counter(), {}, self._spans).to_json(self._started)


class GangSpans:
    """A traced job as the supervisor saw it, from when it is made. The ranks' clocks are their own: what they tell is
    set in the middle of the time between the frame to them and their answer.
    """

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
