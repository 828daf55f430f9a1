"""Errors of the catalogue, filled from the copy that `gen` prints. Not here: the catalogue (packages/protocol)."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Every error there is, as printed from packages/protocol/src/error-catalogue.ts.

    Returns:
        By code: `status` (of HTTP), `retryable`, `message` and `fix`, the last two with `{details}` to fill in.
    """
    text = files("patchbay_protocol").joinpath("errors.json").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return loaded


class PatchbayError(Exception):
    """An error with a stable code: compare that, never the message.

    Attributes:
        code (str): `PB_...` of the catalogue.
        message (str): what is wrong, in a sentence.
        path (str | None): the place in the document, `hooks[0].moduleName`.
        hint (str | None): what to do.
        retryable (bool): whether the same request can succeed later.
        remote (dict[str, Any] | None): `type`, `traceback` and `line` of the user's own exception.
    """

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
        """`error` fills message and hint from the catalogue.

        Args:
            code: of the catalogue.
            message: what is wrong.
            path: the place in the document.
            hint: what to do.
            retryable: by default what the catalogue says.
            remote: of the user's own exception.

        Raises:
            KeyError: no such code.
        """
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
        """The one JSON shape of an error; absent fields are left out.

        Returns:
            `code`, `message`, `retryable`, and `path`, `hint`, `remote` where there are some.
        """
        optional = {"path": self.path, "hint": self.hint, "remote": self.remote}
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            **{key: value for key, value in optional.items() if value is not None},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PatchbayError:
        """The way back.

        Args:
            value: of `to_json`.

        Returns:
            An equal error.

        Raises:
            KeyError: no such code, or one of the fields that are always there is missing.
        """
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
    """Makes an error of the catalogue.

    Args:
        code: of the catalogue.
        path: the place in the document.
        hint: instead of the catalogue's `fix`.
        remote: of the user's own exception.
        **details: fill the `{details}` of message and fix.

    Returns:
        The error, to be raised.

    Raises:
        KeyError: no such code.
    """
    definition = catalogue()[code]
    filled_hint = hint if hint is not None else _fill(definition["fix"], details)
    return PatchbayError(code, _fill(definition["message"], details), path=path, hint=filled_hint, remote=remote)
