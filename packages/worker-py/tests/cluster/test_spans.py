"""Spans of ranks in the supervisor's time, and of one process in its own."""

from __future__ import annotations

import json
import time

import pytest

from patchbay_worker.spans import MAX_SPANS, GangSpans, Span, SpanLog


def test_what_a_rank_tells_is_set_in_the_middle_of_what_the_supervisor_waited() -> None:
    spans = GangSpans()
    time.sleep(0.01)
    spans.sent()
    time.sleep(0.03)
    child = {"name": "prepare", "startMs": 1, "endMs": 2}
    spans.take(1, json.dumps({"name": "rank 1", "startMs": 0, "endMs": 10, "children": [child]}).encode())
    spans.take(0, b'{"name": "rank 0", "startMs": 0, "endMs": 1e6}')
    gang = json.loads(spans.to_json())
    zero, one = gang["children"]
    assert [zero["name"], one["name"]] == ["rank 0", "rank 1"], "by rank, whoever answers first"
    assert one["startMs"] >= 20, "10 ms until it was sent, 10 ms or more on its way"
    assert one["endMs"] - one["startMs"] == pytest.approx(10, abs=1e-6), "in doubles, not to the last bit"
    assert one["children"] == [child], "from the start of the span around it"
    assert zero["startMs"] >= 10
    assert zero["endMs"] <= gang["endMs"], "a clock that counts too much is cut off"


def test_a_log_keeps_nothing_unless_it_is_wanted_and_never_more_than_its_bound() -> None:
    quiet, told = SpanLog(wanted=False), SpanLog(wanted=True)
    for log in (quiet, told):
        for _ in range(MAX_SPANS):
            log.add(Span("forward", 0.0, 1.0, {}, [Span("hook h", 0.0, 1.0)]))
    assert "children" not in quiet.to_json("rank 0")
    kept = told.to_json("rank 0")["children"]
    assert sum(1 + len(span.get("children", [])) for span in kept) == MAX_SPANS
