"""Reads the graph of a job document: every operand is known, every result is used. Not here: its form (the schema)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from patchbay_worker.contract import nearest
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.hooks.graph.graph import INPUT, Graph, Step

Json = Mapping[str, Any]


def read_graph(hook: str, path: str, edit: Json) -> Graph:
    """Raises PB_EDIT_GRAPH with the path of the operand or step that is wrong."""
    references = {name: reference["artifact"] for name, reference in edit["tensors"].items()}
    known = {INPUT: "the input"} | dict.fromkeys(references, "a tensor")
    if INPUT in references:
        raise _problem(hook, f"{path}.tensors.{INPUT}", f'"{INPUT}" is what the hook sees')
    steps: list[Step] = []
    last_use: dict[str, int] = {}
    for index, given in enumerate(edit["steps"]):
        where = f"{path}.steps[{index}]"
        for position, argument in enumerate(given["args"]):
            if isinstance(argument, str):
                if argument not in known:
                    raise _unknown(hook, f"{where}.args[{position}]", argument, list(known))
                last_use[argument] = index
        if not any(isinstance(argument, str) for argument in given["args"]):
            raise _problem(hook, f"{where}.args", "one of them must be a tensor")
        key = given.get("as", str(index))  # no name begins with a digit
        if key in known:
            raise _problem(hook, f"{where}.as", f'the name "{key}" is taken by {known[key]}')
        known[key] = f"step {index}"
        options = {name: value for name, value in given.items() if name not in ("op", "args", "as")}
        steps.append(Step(given["op"], tuple(given["args"]), options, key, where, hook))
    _refuse_unused(hook, path, references, steps, last_use)
    return Graph(hook, path, tuple(_with_last(steps, last_use)), references)


def _refuse_unused(
    hook: str, path: str, references: Mapping[str, str], steps: list[Step], last_use: Mapping[str, int]
) -> None:
    """What nothing uses was meant to be used: a name is wrong somewhere."""
    for name in references:
        if name not in last_use:
            raise _problem(hook, f"{path}.tensors.{name}", "no step uses it")
    for step in steps[:-1]:
        if step.key not in last_use:
            raise _problem(hook, step.path, 'no later step uses its result: name it with "as"')


def _with_last(steps: list[Step], last_use: Mapping[str, int]) -> list[Step]:
    ends: dict[int, list[str]] = {}
    for key, index in last_use.items():
        ends.setdefault(index, []).append(key)
    return [replace(step, last=tuple(ends.get(index, ()))) for index, step in enumerate(steps)]


def _unknown(hook: str, path: str, name: str, known: list[str]) -> PatchbayError:
    named = [each for each in known if not each.isdigit()]
    found = nearest(name, named)
    hint = "Did you mean " + " or ".join(f'"{text}"' for text in found) + "?" if found else None
    reason = f'there is no "{name}" before this step, only {", ".join(named)}'
    return error("PB_EDIT_GRAPH", path=path, hint=hint, hook=hook, reason=reason)


def _problem(hook: str, path: str, reason: str) -> PatchbayError:
    return error("PB_EDIT_GRAPH", path=path, hook=hook, reason=reason)
