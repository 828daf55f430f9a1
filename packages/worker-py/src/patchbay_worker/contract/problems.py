"""What is wrong with a document that was refused: one typed error with the path and, for a mistyped key, the nearest
known one. Codes and paths are those of packages/protocol/src/parse-job.ts. Slow, and only for bad documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, cast

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from patchbay_worker.contract.compiled import allowed_values, discriminator
from patchbay_worker.contract.nearest import nearest
from patchbay_worker.contract.schema import job_schema, utf16_length
from patchbay_worker.errors import PatchbayError, error

Path = Sequence[str | int]

#: The only uses of these keywords in the document.
_COMBINATIONS: Final = {
    "not": "give groups or names, not both",
    "dependentRequired": "complement needs groups",
}

#: Faults of a value whose type is right.
_MILD: Final = {
    "additionalProperties",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
}


def format_path(path: Path) -> str:
    """`["runs", 1, "inputs"]` -> `runs[1].inputs`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else part if text == "" else f".{part}"
    return text


def explain(value: Any, fallback: str) -> PatchbayError:
    """The error for a document that the schema refuses; `fallback` are the words when jsonschema finds none."""
    found = [_deepest(problem) for problem in _validator().iter_errors(value)]
    if not found:
        return error("PB_DOCUMENT_INVALID", reason=fallback)
    # A wrong version explains everything else that looks wrong, so it is told first.
    problem = next((each for each in found if list(each.absolute_path)[:1] == ["version"]), found[0])
    return _to_error(problem, value)


@cache
def _validator() -> Any:
    checks = {"minLength": _min_length, "maxLength": _max_length}
    return extend(Draft202012Validator, cast(Any, checks))(job_schema())


def _min_length(_: Any, limit: int, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and utf16_length(value) < limit:
        yield ValidationError(f"expected at least {limit} characters")


def _max_length(_: Any, limit: int, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and utf16_length(value) > limit:
        yield ValidationError(f"expected at most {limit} characters, got {utf16_length(value)}")


def _deepest(problem: ValidationError) -> ValidationError:
    """The problem that says most: inside of a union, the one of the alternative that was meant."""
    if not problem.context:
        return problem
    if problem.validator == "oneOf":
        meant = _meant(problem)
        return problem if meant is None else _deepest(meant)
    fitting = _only_mild(problem)
    if fitting is not None:
        return _deepest(fitting)
    inner = [_deepest(each) for each in problem.context]
    best = max(inner, key=lambda each: len(each.absolute_path))
    return best if len(best.absolute_path) > len(problem.absolute_path) else problem


def _only_mild(problem: ValidationError) -> ValidationError | None:
    """The first fault of the one alternative that has the right types all through, as zod tells it."""
    alternatives: dict[str | int, list[ValidationError]] = {}
    for each in problem.context:
        alternatives.setdefault(each.schema_path[0], []).append(each)
    mild = [faults for faults in alternatives.values() if all(each.validator in _MILD for each in faults)]
    return mild[0][0] if len(mild) == 1 else None


def _meant(problem: ValidationError) -> ValidationError | None:
    alternatives = cast("list[dict[str, Any]]", problem.validator_value)
    key = discriminator(alternatives)
    given = problem.instance.get(key) if isinstance(problem.instance, dict) else None
    for index, alternative in enumerate(alternatives):
        optional = given is None and key not in alternative["required"]
        if given in allowed_values(alternative, key) or optional:
            return next((each for each in problem.context if each.schema_path[0] == index), None)
    return None


def _to_error(problem: ValidationError, document: Any) -> PatchbayError:
    path = list(problem.absolute_path)
    if problem.validator == "additionalProperties" and problem.validator_value is False:
        return _unknown_key(problem, path)
    if problem.validator == "required":
        given = cast("dict[str, Any]", problem.instance)
        missing = next(key for key in cast("list[str]", problem.validator_value) if key not in given)
        path.append(missing)
        if path == ["version"]:
            return error("PB_DOCUMENT_VERSION", path="version", actual="undefined")
        return error("PB_DOCUMENT_INVALID", path=format_path(path), reason=f'"{missing}" is required')
    if path == ["version"]:
        return error("PB_DOCUMENT_VERSION", path="version", actual=json.dumps(document["version"]))
    return error("PB_DOCUMENT_INVALID", path=format_path(_sharpen(problem, path)), reason=_reason(problem))


def _unknown_key(problem: ValidationError, path: list[str | int]) -> PatchbayError:
    properties = cast("dict[str, Any]", problem.schema)["properties"]
    key = next(name for name in cast("dict[str, Any]", problem.instance) if name not in properties)
    known = _known_keys(path)
    near = nearest(key, known, 1)
    if near and near[0] == key:
        hint = f'"{key}" belongs to another mode or kind than the one given here.'
    else:
        hint = f'Did you mean "{near[0]}"?' if near else f"Known keys here: {', '.join(known)}."
    return error("PB_DOCUMENT_UNKNOWN_KEY", path=format_path([*path, key]), hint=hint, key=key)


def _sharpen(problem: ValidationError, path: list[str | int]) -> list[str | int]:
    """Where no alternative was meant, the discriminating key is at fault."""
    if problem.validator != "oneOf" or not isinstance(problem.instance, dict):
        return path
    return [*path, discriminator(cast("list[dict[str, Any]]", problem.validator_value))]


def _reason(problem: ValidationError) -> str:
    if problem.validator == "oneOf" and isinstance(problem.instance, dict):
        alternatives = cast("list[dict[str, Any]]", problem.validator_value)
        key = discriminator(alternatives)
        known = ", ".join(json.dumps(value) for each in alternatives for value in allowed_values(each, key))
        return f"expected one of {known}"
    validator = str(problem.validator)
    if validator in ("minProperties", "maxProperties"):
        return "give exactly one of " + ", ".join(cast("dict[str, Any]", problem.schema)["properties"])
    if validator in _COMBINATIONS:
        return _COMBINATIONS[validator]
    return problem.message if len(problem.message) <= 300 else problem.message[:300] + "..."


def _known_keys(path: Path) -> list[str]:
    """Keys that the schema knows at a path, over all alternatives."""
    level = [job_schema()]
    for part in path:
        level = [inner for schema in level for each in _spread(schema) for inner in _step(each, part)]
    return list(
        dict.fromkeys(key for schema in level for each in _spread(schema) for key in each.get("properties", {}))
    )


def _spread(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for alternative in [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        yield from _spread(alternative)


def _step(schema: dict[str, Any], part: str | int) -> Iterator[dict[str, Any]]:
    if isinstance(part, int):
        following = schema.get("items")
    else:
        following = schema.get("properties", {}).get(part, schema.get("additionalProperties"))
    if isinstance(following, dict):
        yield following
