"""Reads the printed JSON Schema of the job document. Patterns are JavaScript's there and become Python's here."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def job_schema() -> dict[str, Any]:
    text = files("patchbay_protocol").joinpath("job.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    _translate_patterns(schema)
    return schema


def max_document_bytes() -> int:
    """How much UTF-8 JSON a script may send."""
    return int(job_schema()["maxBytes"])


def utf16_length(text: str) -> int:
    """Length as JavaScript counts it, so that both sides draw the line at the same place."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", errors="surrogatepass")) // 2


def _translate_patterns(node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("pattern"), str):
            node["pattern"] = _python_pattern(node["pattern"])
        for value in node.values():
            _translate_patterns(value)
    elif isinstance(node, list):
        for value in node:
            _translate_patterns(value)


def _python_pattern(pattern: str) -> str:
    # In Python `$` also matches before a final newline and \w knows all scripts; in JavaScript neither is so.
    return "(?a)" + (pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern)
