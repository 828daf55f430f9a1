"""Everything in the corpus, and some thousand mutations by fixed seeds. Longer: `npm run fuzz -- --minutes 10`."""

from __future__ import annotations

import json
import random
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .corpus import FOLDER, HONEST, inputs_of
from .mutate import mutated
from .targets import TARGETS, Refused

MUTATIONS = 1_000


@pytest.mark.parametrize("target", TARGETS)
def test_honest_inputs_pass(target: str) -> None:
    for data in HONEST[target]:
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_in_the_corpus_breaks_nothing(target: str) -> None:
    assert list((FOLDER / target).glob("*.bin")), "it has inputs of its own"
    for data in inputs_of(target):
        with suppress(Refused):
            TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_break_nothing(target: str) -> None:
    rng, pool, refused = random.Random(target), inputs_of(target), 0
    for _ in range(MUTATIONS):
        try:
            TARGETS[target](mutated(rng.choice(pool), pool, rng))
        except Refused:
            refused += 1
    assert 0 < refused < MUTATIONS, "some pass and some do not, else the mutations are of no use"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["kind", "type", "text", "traceback", "line", "expected", "actual"]), JSON))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
def test_any_json_is_a_report_or_is_refused(body: dict[str, object]) -> None:
    for kind in ("failed", "shape", "syntax"):
        with suppress(Refused):
            TARGETS["report"](json.dumps({**body, "kind": kind}).encode())
