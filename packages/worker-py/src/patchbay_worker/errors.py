"""Errors of the catalogue, filled from the copy that `gen` prints. Not here: the catalogue (packages/protocol)."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Code -> {status, retryable, message, fix}, as printed from packages/protocol/src/error-catalogue.ts."""
    text = files("patchbay_protocol").joinpath("errors.json").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return loaded


class PatchbayError(Exception):
    """An error with a stable code. `remote` is {type, traceback, line} of the user's own exception."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        path: str | None = None,
        hint: str | None = None,
        retryable: bool | None = None,
        remote: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.path = path
        self.hint = hint
        self.retryable = bool(catalogue()[code]["retryable"]) if retryable is None else retryable
        self.remote = remote

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt from their args where Ray copies them between processes; ours have keywords.
        return (PatchbayError.from_json, (self.to_json(),))

    def to_json(self) -> dict[str, Any]:
        """The one JSON shape of an error (contract section 3); absent fields are left out."""
        optional = {"path": self.path, "hint": self.hint, "remote": self.remote}
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            **{key: value for key, value in optional.items() if value is not None},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PatchbayError:
        return cls(
            value["code"],
            value["message"],
            path=value.get("path"),
            hint=value.get("hint"),
            retryable=value.get("retryable"),
            remote=value.get("remote"),
        )


def _fill(template: str, details: dict[str, object]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: str(details.get(match[1], match[0])), template)


def error(
    code: str,
    *,
    path: str | None = None,
    hint: str | None = None,
    remote: dict[str, Any] | None = None,
    **details: object,
) -> PatchbayError:
    """Makes an error of the catalogue; raises KeyError for a code that is not in it."""
    definition = catalogue()[code]
    filled_hint = hint if hint is not None else _fill(definition["fix"], details)
    return PatchbayError(code, _fill(definition["message"], details), path=path, hint=filled_hint, remote=remote)
