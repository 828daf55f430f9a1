"""Turns what a job reports, or how it ended, into errors of the catalogue. Not here: deciding when a job has failed."""

from __future__ import annotations

from typing import Any, Final

from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.sandbox.job_process import Exit
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.wire.message import WireError
from patchbay_worker.sandbox.wire.text import plain_text

TEXT_CHARS: Final = 2000
TRACEBACK_CHARS: Final = 6500


def from_report(body: dict[str, Any], hook: str, limits: SandboxLimits) -> PatchbayError:
    """The error for an ERROR reply; raises WireError for a body that no honest job sends."""
    kind = body.get("kind")
    if kind == "failed":
        name, text = _text(body, "type"), _text(body, "text")
        return error("PB_EDIT_FAILED", hook=hook, type=name, text=text, remote=_remote(body))
    if kind == "blocked":
        return error("PB_EDIT_BLOCKED", hook=hook, what=_text(body, "text"), remote=_remote(body))
    if kind == "memory":
        return error("PB_EDIT_MEMORY", hook=hook, bytes=limits.memory_bytes, remote=_remote(body))
    if kind == "shape":
        return error("PB_EDIT_SHAPE", hook=hook, expected=_sizes(body, "expected"), actual=_sizes(body, "actual"))
    if kind == "dtype":
        return error("PB_EDIT_DTYPE", hook=hook, expected=_text(body, "expected"), actual=_text(body, "actual"))
    if kind == "returned":
        return error("PB_EDIT_RETURNED_NONE", hook=hook, type=_text(body, "type"))
    if kind == "syntax":
        remote = {"type": _text(body, "type"), "traceback": _text(body, "text"), "line": _line(body)}
        return error("PB_EDIT_SYNTAX", hook=hook, text=_text(body, "text"), line=_line(body), remote=remote)
    if kind == "entry":
        return error("PB_EDIT_ENTRY_MISSING", hook=hook, entry=_text(body, "entry"))
    if kind == "signature":
        return error("PB_EDIT_SIGNATURE", hook=hook, signature=_text(body, "signature"))
    if kind == "nothing-to-train":
        return error("PB_NOTHING_TO_TRAIN")
    raise WireError("unknown kind of error")


def from_exit(end: Exit | None, hook: str, limits: SandboxLimits) -> PatchbayError:
    """The error for a job process that ended by itself."""
    if end is None:
        return error("PB_SANDBOX_FAILED", reason="the job's process and its zygote ended")
    if end.out_of_memory:
        return error("PB_EDIT_MEMORY", hook=hook, bytes=limits.memory_bytes)
    if end.signal_name == "SIGSYS":
        return error("PB_EDIT_BLOCKED", hook=hook, what="a system call that no edit needs (SIGSYS)")
    if end.signal_name == "SIGXCPU" or (end.signal_name == "SIGKILL" and end.cpu_s >= limits.job_timeout_s):
        return error("PB_EDIT_TIMEOUT", hook=hook, seconds=f"{limits.job_timeout_s:g}")
    return error("PB_EDIT_CRASHED", hook=hook, reason=str(end))


def _remote(body: dict[str, Any]) -> dict[str, Any]:
    traceback = plain_text(_string(body, "traceback"), TRACEBACK_CHARS)
    return {"type": _text(body, "type"), "traceback": traceback, "line": _line(body)}


def _line(body: dict[str, Any]) -> int | None:
    line = body.get("line")
    if line is not None and (not isinstance(line, int) or isinstance(line, bool) or not 0 <= line < 2**31):
        raise WireError("bad line")
    return line


def _sizes(body: dict[str, Any], key: str) -> str:
    sizes = body.get(key)
    if not isinstance(sizes, list) or len(sizes) > 64 or not all(isinstance(size, int) for size in sizes):
        raise WireError("bad shape")
    return str(sizes)


def _text(body: dict[str, Any], key: str) -> str:
    return plain_text(_string(body, key), TEXT_CHARS)


def _string(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise WireError(f"{key} is no text")
    return value
