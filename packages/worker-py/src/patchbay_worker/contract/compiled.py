"""Compiles the part of JSON Schema that our documents use into closures that check a value and fill in defaults.
Fast because it only says yes or no: words for the user come from `problems.py`. A keyword that is not known here is
refused when compiling, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from patchbay_worker.contract.schema import utf16_length

#: Returns the value with defaults filled in, in containers of its own; raises Refused.
Check = Callable[[Any], Any]
Schema = dict[str, Any]

_ANNOTATIONS = {"$schema", "title", "description", "default", "maxBytes"}
_MISSING = object()


class Refused(Exception):
    """The value does not fit the schema."""


def compile_schema(schema: Schema) -> Check:
    keywords = set(schema) - _ANNOTATIONS
    if not keywords:
        return lambda value: value
    if "oneOf" in keywords:
        _refuse_unknown(keywords, {"oneOf"})
        return _discriminated(schema["oneOf"])
    if "anyOf" in keywords:
        _refuse_unknown(keywords, {"anyOf"})
        return _union([compile_schema(alternative) for alternative in schema["anyOf"]])
    if "type" not in keywords:
        _refuse_unknown(keywords, {"const", "enum"})
        return _choices(schema, lambda value: value)
    compilers: dict[str, Callable[[Schema], Check]] = {
        "object": _object,
        "array": _array,
        "string": _string,
        "integer": _number,
        "number": _number,
        "boolean": lambda _: _boolean,
        "null": lambda _: _null,
    }
    return _choices(schema, compilers[schema["type"]](schema))


def _refuse_unknown(keywords: set[str], known: set[str]) -> None:
    if unknown := keywords - known - _ANNOTATIONS - {"type", "const", "enum"}:
        raise NotImplementedError(f"JSON Schema keywords {sorted(unknown)}")


def _choices(schema: Schema, check: Check) -> Check:
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if allowed is None:
        return check

    def run(value: Any) -> Any:
        checked = check(value)
        if checked not in allowed or isinstance(checked, bool) != isinstance(allowed[0], bool):
            raise Refused(f"expected one of {allowed}")
        return checked

    return run


def _boolean(value: Any) -> Any:
    if value is True or value is False:
        return value
    raise Refused("expected true or false")


def _null(value: Any) -> Any:
    if value is None:
        return value
    raise Refused("expected null")


def _string(schema: Schema) -> Check:
    _refuse_unknown(set(schema), {"minLength", "maxLength", "pattern"})
    low, high = schema.get("minLength", 0), schema.get("maxLength", float("inf"))
    search = re.compile(schema["pattern"]).search if "pattern" in schema else None

    def run(value: Any) -> Any:
        if not isinstance(value, str):
            raise Refused("expected a string")
        if not low <= utf16_length(value) <= high:
            raise Refused(f"expected {low} to {high} characters")
        if search is not None and search(value) is None:
            raise Refused(f"expected to match {schema['pattern']}")
        return value

    return run


def _number(schema: Schema) -> Check:
    bounds = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    _refuse_unknown(set(schema), bounds)
    whole = schema["type"] == "integer"
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    above, below = schema.get("exclusiveMinimum", float("-inf")), schema.get("exclusiveMaximum", float("inf"))

    def run(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused("expected a number")
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JavaScript and JSON know no difference between 1 and 1.0
        if whole and not isinstance(value, int):
            raise Refused("expected a whole number")
        if not (low <= value <= high and above < value < below):
            raise Refused("the number is out of range")
        return value

    return run


def _array(schema: Schema) -> Check:
    _refuse_unknown(set(schema), {"items", "minItems", "maxItems"})
    item = compile_schema(schema["items"])
    low, high = schema.get("minItems", 0), schema.get("maxItems", float("inf"))

    def run(value: Any) -> Any:
        if not isinstance(value, list):
            raise Refused("expected a list")
        if not low <= len(value) <= high:
            raise Refused(f"expected {low} to {high} entries")
        return [item(entry) for entry in value]

    return run


def _object(schema: Schema) -> Check:
    known = {"properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"}
    _refuse_unknown(set(schema), known | {"not", "dependentRequired"})
    checks = {key: compile_schema(value) for key, value in schema.get("properties", {}).items()}
    defaults = {key: value["default"] for key, value in schema.get("properties", {}).items() if "default" in value}
    required = frozenset(schema.get("required", ()))
    more = schema.get("additionalProperties", {})
    other = compile_schema(more) if more is not False else None
    names = compile_schema(schema["propertyNames"]) if "propertyNames" in schema else None
    low, high = schema.get("minProperties", 0), schema.get("maxProperties", float("inf"))
    together = _combinations(schema)

    def run(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Refused("expected an object")
        if not required <= value.keys() or not low <= len(value) <= high or not together(value):
            raise Refused("keys are missing or exclude each other")
        filled: dict[str, Any] = {}
        for key, entry in value.items():
            check = checks.get(key, other)
            if check is None:
                raise Refused(f"unknown key {key!r}")
            if names is not None:
                names(key)
            filled[key] = check(entry)
        for key, default in defaults.items():
            if key not in filled:
                filled[key] = checks[key](default)
        return filled

    return run


def _combinations(schema: Schema) -> Callable[[dict[str, Any]], bool]:
    """`not: {required}` and `dependentRequired`: keys that exclude or need each other."""
    if "not" in schema and set(schema["not"]) != {"required"}:
        raise NotImplementedError("JSON Schema `not` of anything but `required`")
    excluded = frozenset(schema["not"]["required"]) if "not" in schema else None
    needs = {key: frozenset(others) for key, others in schema.get("dependentRequired", {}).items()}

    def run(value: dict[str, Any]) -> bool:
        if excluded is not None and excluded <= value.keys():
            return False
        return all(others <= value.keys() for key, others in needs.items() if key in value)

    return run


def _union(checks: list[Check]) -> Check:
    def run(value: Any) -> Any:
        for check in checks:
            try:
                return check(value)
            except Refused:
                continue
        raise Refused("fits no alternative")

    return run


def discriminator(alternatives: list[Schema]) -> str:
    """The key whose values tell the alternatives of a `oneOf` apart."""
    for key in alternatives[0]["properties"]:
        values = [allowed_values(other, key) for other in alternatives]
        if all(values) and sum(map(len, values)) == len({each for some in values for each in some}):
            return str(key)
    raise NotImplementedError("JSON Schema `oneOf` without a discriminating key")


def allowed_values(alternative: Schema, key: str) -> list[Any]:
    """Of a key that takes a constant or one of a few values; empty for others."""
    schema = alternative["properties"].get(key, {})
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def _discriminated(alternatives: list[Schema]) -> Check:
    key = discriminator(alternatives)
    table: dict[Any, Check] = {}
    for alternative in alternatives:
        check = compile_schema(alternative)
        table.update(dict.fromkeys(allowed_values(alternative, key), check))
        if key not in alternative["required"]:
            table[_MISSING] = check

    def run(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Refused("expected an object")
        found = value.get(key, _MISSING)
        check = table.get(found) if found is _MISSING or isinstance(found, str) else None
        if check is None:
            raise Refused(f"unknown {key}")
        return check(value)

    return run
