"""The compiled check accepts exactly what jsonschema accepts."""

from __future__ import annotations

import copy
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.test_parse_document import DOCUMENT
from patchbay_worker.contract.compiled import Refused, compile_schema
from patchbay_worker.contract.problems import _validator
from patchbay_worker.contract.schema import job_schema

CHECK = compile_schema(job_schema())
VALUES: list[Any] = [None, True, 0, -1, 1.0, 1.5, 2**60, "", "a", "a\n", "ä", "𝕏" * 64, [], [1], {}, {"kind": "none"}]
VALUES += [{"artifact": "sha256:" + "0" * 64}, ["all"], {"names": []}, "generate", "python", [[1, 2]], {"from": 1}]
KEYS = [
    "kind",
    "mode",
    "text",
    "tokenIds",
    "names",
    "groups",
    "complement",
    "edit",
    "where",
    "steps",
    "loss",
    "x",
    "rank",
]


def places(node: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        found.append((node, key))
        places(value, found)
    return found


def mutate(seed: int, steps: int) -> Any:
    generator = random.Random(seed)
    document = copy.deepcopy(DOCUMENT)
    for _ in range(steps):
        container, key = generator.choice(places(document, []))
        choice = generator.random()
        if choice < 0.5:
            container[key] = copy.deepcopy(generator.choice(VALUES))
        elif choice < 0.7 and isinstance(container, dict):
            del container[key]
        elif isinstance(container, dict):
            container[generator.choice(KEYS)] = copy.deepcopy(generator.choice(VALUES))
        if not document:
            break
    return document


def accepts(document: Any) -> bool:
    try:
        CHECK(document)
    except Refused:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 3))
def test_the_compiled_check_agrees_with_jsonschema(seed: int, steps: int) -> None:
    document = mutate(seed, steps)
    assert accepts(document) == _validator().is_valid(document)


def test_the_mutations_reach_both_answers() -> None:
    answers = [accepts(mutate(seed, 1)) for seed in range(300)]
    assert 30 < sum(answers) < 270


def test_a_filled_document_is_valid_too() -> None:
    assert _validator().is_valid(CHECK(DOCUMENT))
