"""What one process did in a job, and when by its own clock: a tree that a trace is drawn from. Not here: who draws."""

from __future__ import annotations

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
