"""The job document in Python: checks it against the printed schema and fills in its defaults, as
packages/protocol/src/parse-job.ts does. Not here: the schema itself, and checks that need a deployment.

Every rank parses every job, so the way of a good document is a check compiled once (`compiled.py`); only a bad one
meets jsonschema, which finds the words (`problems.py`).
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, NoReturn

from patchbay_worker.contract.compiled import Check, Refused, compile_schema
from patchbay_worker.contract.nearest import nearest
from patchbay_worker.contract.problems import explain
from patchbay_worker.contract.schema import job_schema, max_document_bytes
from patchbay_worker.errors import PatchbayError, error

__all__ = ["nearest", "parse_document"]


def parse_document(document: bytes | dict[str, Any], *, limited: bool = True) -> dict[str, Any]:
    """The document with every default filled in and every hook and run named.

    Args:
        document: JSON, or what JSON decodes to; it is not changed.
        limited: False for documents that were accepted before: filled defaults make them longer than what was sent.

    Returns:
        A document that `Engine` takes.

    Raises:
        PatchbayError: PB_DOCUMENT_INVALID with the path of the wrong key and the nearest known one,
            PB_DOCUMENT_TOO_LARGE, PB_HOOK_NOT_FOUND, PB_GROUP_NOT_FOUND.
    """
    if limited:
        _refuse_too_large(document)
    value = _decode(document) if isinstance(document, bytes) else document
    try:
        filled: dict[str, Any] = _check()(value)
    except Refused as refused:
        raise explain(value, str(refused)) from None
    for index, hook in enumerate(filled["hooks"]):
        hook.setdefault("name", f"hook-{index}")
    for index, run in enumerate(filled["runs"]):
        run.setdefault("mode", "forward")
        run.setdefault("name", f"run-{index}")
    _refuse_duplicates([hook["name"] for hook in filled["hooks"]], "hooks")
    _refuse_duplicates([run["name"] for run in filled["runs"]], "runs")
    _refuse_unknown_hooks(filled)
    return filled


@cache
def _check() -> Check:
    return compile_schema(job_schema())


def _refuse_too_large(document: bytes | dict[str, Any]) -> None:
    if isinstance(document, bytes):
        size = len(document)
    else:
        size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass"))
    if size > max_document_bytes():
        raise error("PB_DOCUMENT_TOO_LARGE", bytes=size, limit=max_document_bytes())


def _decode(document: bytes) -> Any:
    try:
        return json.loads(document, parse_constant=_refuse_constant)
    except RecursionError:
        raise error("PB_DOCUMENT_INVALID", reason="it is nested too deeply") from None
    except ValueError as problem:
        raise error("PB_DOCUMENT_INVALID", reason=f"it is not JSON: {problem}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _refuse_duplicates(names: list[str], where: str) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            reason = f'the name "{name}" is taken by {where}[{first[name]}]'
            raise error("PB_DOCUMENT_INVALID", path=f"{where}[{index}].name", reason=reason)


def _refuse_unknown_hooks(document: dict[str, Any]) -> None:
    names = [hook["name"] for hook in document["hooks"]]
    groups = {"all", *(group for hook in document["hooks"] for group in hook["groups"])}
    for index, run in enumerate(document["runs"]):
        path = f"runs[{index}].hooks"
        for position, name in enumerate(run["hooks"].get("names", ())):
            if name not in names:
                raise _not_found("PB_HOOK_NOT_FOUND", f"{path}.names[{position}]", name, names, hook=name)
        for position, group in enumerate(run["hooks"].get("groups", ())):
            if group not in groups:
                raise _not_found("PB_GROUP_NOT_FOUND", f"{path}.groups[{position}]", group, sorted(groups), group=group)


def _not_found(code: str, path: str, name: str, known: list[str], **details: Any) -> PatchbayError:
    found = nearest(name, known)
    hint = "Did you mean " + " or ".join(f'"{text}"' for text in found) + "?" if found else None
    return error(code, path=path, hint=hint, **details)
