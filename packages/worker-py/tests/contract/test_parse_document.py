"""Documents in Python: the defaults that are filled in, and the error of every kind of mistake."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from patchbay_worker.contract import parse_document
from patchbay_worker.errors import PatchbayError

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "model": "tiny-facts",
    "modules": {"projection": {"kind": "linear", "inFeatures": 512, "outFeatures": 512}},
    "hooks": [
        {
            "name": "svd",
            "moduleName": "model.layers.2.mlp.gate_proj",
            "expectedShape": [None, None, 512],
            "edit": {"kind": "python", "source": "def edit(a, b, c, d): return b"},
            "groups": ["study"],
        },
        {"moduleName": "model.layers.*", "save": "post", "where": {"positions": [-1]}},
    ],
    "runs": [
        {"inputs": {"text": ["hi"]}},
        {"mode": "generate", "inputs": {"tokenIds": [[1, 2]]}, "hooks": {"groups": ["study"]}},
    ],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """DOCUMENT with one value set; `...` removes the key."""
    document = copy.deepcopy(DOCUMENT)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target: Any = document
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return document


def problem_of(document: Any, **options: Any) -> PatchbayError:
    with pytest.raises(PatchbayError) as caught:
        parse_document(document, **options)
    return caught.value


def test_defaults_and_names_are_filled_in() -> None:
    filled = parse_document(json.dumps(DOCUMENT).encode())
    assert filled["seed"] == 0
    assert filled["limits"] == {}, "what is left out becomes what the operator allows"
    assert filled["modules"]["projection"]["bias"] is True
    assert [hook["name"] for hook in filled["hooks"]] == ["svd", "hook-1"]
    assert filled["hooks"][1]["edit"] == {"kind": "none"}
    assert filled["hooks"][0]["edit"]["entry"] == "edit"
    assert [(run["name"], run["mode"]) for run in filled["runs"]] == [("run-0", "forward"), ("run-1", "generate")]
    assert filled["runs"][0]["hooks"] == {"groups": ["all"]}
    assert filled["runs"][0]["return"] == {"logits": "none", "topK": 0}
    assert filled["runs"][1]["maxNewTokens"] == 16


def test_a_filled_document_stays_as_it_is_and_the_given_one_is_not_touched() -> None:
    given = copy.deepcopy(DOCUMENT)
    filled = parse_document(given)
    assert given == DOCUMENT
    assert parse_document(filled) == filled
    filled["runs"][0]["hooks"]["groups"].append("changed")
    assert parse_document(given)["runs"][0]["hooks"] == {"groups": ["all"]}, "defaults are not shared between documents"


@pytest.mark.parametrize(
    ("path", "value", "code", "where", "hint"),
    [
        ("version", 2, "PB_DOCUMENT_VERSION", "version", None),
        ("version", ..., "PB_DOCUMENT_VERSION", "version", None),
        ("modl", "x", "PB_DOCUMENT_UNKNOWN_KEY", "modl", "model"),
        ("runs.1.inputs.txt", ["a"], "PB_DOCUMENT_UNKNOWN_KEY", "runs[1].inputs.txt", "text"),
        ("hooks.0.edit.sourc", "x", "PB_DOCUMENT_UNKNOWN_KEY", "hooks[0].edit.sourc", "source"),
        ("hooks.0.moduleName", ..., "PB_DOCUMENT_INVALID", "hooks[0].moduleName", None),
        ("hooks.0.edit.kind", "pyton", "PB_DOCUMENT_INVALID", "hooks[0].edit.kind", None),
        ("hooks.0.name", "a\n", "PB_DOCUMENT_INVALID", "hooks[0].name", None),
        ("hooks.1.name", "svd", "PB_DOCUMENT_INVALID", "hooks[1].name", None),
        ("hooks.0.edit.entry", "ärger", "PB_DOCUMENT_INVALID", "hooks[0].edit.entry", None),
        ("runs.0.mode", "x", "PB_DOCUMENT_INVALID", "runs[0].mode", None),
        ("runs.0.inputs.tokenIds", [[1]], "PB_DOCUMENT_INVALID", "runs[0].inputs", None),
        ("runs.0.hooks", {"complement": True}, "PB_DOCUMENT_INVALID", "runs[0].hooks", None),
        ("runs.0.hooks", {"groups": ["all"], "names": []}, "PB_DOCUMENT_INVALID", "runs[0].hooks", None),
        ("runs.0.hooks", {"names": ["sv"]}, "PB_HOOK_NOT_FOUND", "runs[0].hooks.names[0]", "svd"),
        ("runs.0.hooks", {"groups": ["studi"]}, "PB_GROUP_NOT_FOUND", "runs[0].hooks.groups[0]", "study"),
        ("seed", True, "PB_DOCUMENT_INVALID", "seed", None),
        ("seed", 1.5, "PB_DOCUMENT_INVALID", "seed", None),
        ("seed", -1, "PB_DOCUMENT_INVALID", "seed", None),
        ("runs", [], "PB_DOCUMENT_INVALID", "runs", None),
        ("model", "𝕏" * 65, "PB_DOCUMENT_INVALID", "model", None),
    ],
)
def test_mistakes_have_a_code_a_path_and_a_hint(path: str, value: Any, code: str, where: str, hint: str | None) -> None:
    problem = problem_of(changed(path, value))
    assert (problem.code, problem.path) == (code, where)
    if hint is not None:
        assert f'"{hint}"' in str(problem.hint)


def test_lengths_count_as_in_javascript() -> None:
    assert parse_document(changed("model", "𝕏" * 64))["model"] == "𝕏" * 64


def test_whole_floats_are_integers() -> None:
    seed = parse_document(changed("seed", 3.0))["seed"]
    assert (seed, type(seed)) == (3, int)


@pytest.mark.parametrize("text", [b"{", b"[" * 60_000, b"NaN", b"\xff", b"[]", b"null"])
def test_what_is_no_document_is_refused(text: bytes) -> None:
    assert problem_of(text).code == "PB_DOCUMENT_INVALID"


def test_the_size_is_limited_for_what_a_script_sent_only() -> None:
    source = {"kind": "python", "source": "#" * 65_500}
    document = changed("hooks.0.edit", source)
    problem = problem_of(json.dumps(document).encode())
    assert (problem.code, "65536" in problem.message) == ("PB_DOCUMENT_TOO_LARGE", True)
    assert problem_of(document).code == "PB_DOCUMENT_TOO_LARGE"
    assert parse_document(json.dumps(document).encode(), limited=False)["hooks"][0]["edit"]["entry"] == "edit"
