"""Compiles a user's source, finds its function, and says what went wrong in terms of the user's own lines.

Not here: what a returned tensor must look like (edit.py).
"""

from __future__ import annotations

import errno
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

import numpy
import torch

from patchbay_worker.sandbox.wire.message import MAX_JSON, encode_body
from patchbay_worker.sandbox.wire.text import plain_text

TEXT_CHARS: Final = 2000
TRACEBACK_CHARS: Final = 4000
FRAMES: Final = 30
OUT_OF_MEMORY: Final = ("can't allocate memory", "Cannot allocate memory")

_user_files: set[str] = set()


class Refusal(Exception):
    """A fault of user code that is no exception of its own; `body` goes to the worker as it is."""

    def __init__(self, kind: str, **details: object) -> None:
        super().__init__(kind)
        self.body: dict[str, Any] = {"kind": kind, **details}


def load_function(label: str, source: str, entry: str, arguments: int) -> Callable[..., Any]:
    """Executes `source` once and returns its function `entry`, which must take `arguments` positional arguments."""
    filename = _register(label, source)
    try:
        code = compile(source, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        line = getattr(problem, "lineno", None)
        raise Refusal(
            "syntax", text=_cut(getattr(problem, "msg", None) or str(problem)), line=line, type=_type_name(problem)
        ) from None
    namespace: dict[str, Any] = {"__name__": "patchbay_edit", "torch": torch, "np": numpy}
    exec(code, namespace)
    function = namespace.get(entry)
    if not callable(function):
        raise Refusal("entry", entry=entry)
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # a builtin without one: the call will tell
        return function  # type: ignore[no-any-return]
    try:
        signature.bind(*(None,) * arguments)
    except TypeError:
        raise Refusal("signature", signature=_cut(f"{entry}{signature}")) from None
    return function  # type: ignore[no-any-return]


def _register(label: str, source: str) -> str:
    """A file name for the source under which tracebacks find its lines."""
    filename = f"<{label}>"
    number = 1
    while filename in _user_files:
        number += 1
        filename = f"<{label} #{number}>"
    _user_files.add(filename)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return filename


def report(problem: BaseException) -> dict[str, Any]:
    """What the worker is told of an exception, which user code may have built so that it cannot be looked at."""
    trace = sys.exc_info()[2]
    try:
        return _fit_message(describe(problem))
    except BaseException:
        frames = _user_frames(trace)
        return {
            "kind": "failed",
            "type": "Exception",
            "text": "(the exception itself fails when it is shown)",
            "traceback": "",
            "line": frames[-1][1] if frames else None,
        }


def describe(problem: BaseException) -> dict[str, Any]:
    """Type, message, traceback and line of an exception, restricted to the frames of user code."""
    if isinstance(problem, Refusal):
        return problem.body
    text = _message(problem)
    memory = isinstance(problem, MemoryError) or any(mark in text for mark in OUT_OF_MEMORY)
    frames = _user_frames(problem.__traceback__)
    summary = traceback.StackSummary.extract(iter(frames[-FRAMES:]))
    head = "Traceback (most recent call last):\n" if frames else ""
    lines = "".join(summary.format())
    name = _type_name(problem)
    return {
        "kind": "memory" if memory else "blocked" if _is_blocked(problem) else "failed",
        "type": name,
        "text": text,
        "traceback": f"{head}{plain_text(lines, TRACEBACK_CHARS)}{name}: {text}",
        "line": frames[-1][1] if frames else None,
    }


def _is_blocked(problem: BaseException) -> bool:
    """What the lock-down answers; an exception that user code has made itself has no errno."""
    return isinstance(problem, OSError) and problem.errno in (errno.EPERM, errno.EACCES, errno.EROFS)


def _fit_message(body: dict[str, Any]) -> dict[str, Any]:
    """Shortens the texts of an error until it fits in one message."""
    while len(encode_body(body)) > MAX_JSON:
        longest = max((key for key in body if isinstance(body[key], str)), key=lambda key: len(body[key]))
        if not body[longest]:
            raise ValueError("an error without a text to shorten")
        body = {**body, longest: body[longest][: len(body[longest]) // 2]}
    return body


def _user_frames(trace: TracebackType | None) -> list[tuple[FrameType, int]]:
    return [(frame, line) for frame, line in traceback.walk_tb(trace) if frame.f_code.co_filename in _user_files]


def _message(problem: BaseException) -> str:
    try:
        return _cut(str(problem))
    except BaseException:
        return "(its message cannot be shown)"


def _type_name(problem: BaseException) -> str:
    kind = type(problem)
    module = str(kind.__module__)
    plain = module in ("builtins", "patchbay_edit")
    return _cut(kind.__qualname__ if plain else f"{module}.{kind.__qualname__}")


def _cut(text: str) -> str:
    return plain_text(text, TEXT_CHARS)
