"""What a docstring says of an object, as Markdown, held against the object's signature. Griffe reads the sources, so
nothing is imported. Not here: which objects are printed (python_reference.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import griffe

Thing = griffe.Class | griffe.Function | griffe.Attribute
problems: list[str] = []
"""What is not described, or not true."""
codes: set[str] = set()
"""Of the catalogue; filled before anything is printed."""


def cell(text: str) -> str:
    """One line of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    yield from ("| " + " | ".join(map(cell, row)) + " |" for row in rows)
    yield ""


def code(value: object) -> str:
    return f"`{value}`" if value is not None else ""


class Documented:
    """A docstring in parts, held against the object that it is of."""

    def __init__(self, thing: Thing, caller: griffe.Function | None) -> None:
        self.thing = thing
        self.caller = caller
        """What takes the parameters that the docstring names; None where there are none."""
        if thing.docstring is None:
            problems.append(f"{thing.path}: no docstring")
        self.sections = thing.docstring.parse("google", warnings=False) if thing.docstring is not None else []
        self._check()

    def section(self, kind: str) -> Any:
        return next((section.value for section in self.sections if section.kind.value == kind), [])

    @property
    def parameters(self) -> list[griffe.Parameter]:
        if self.caller is None:
            return []
        return [parameter for parameter in self.caller.parameters if parameter.name not in ("self", "cls")]

    def _check(self) -> None:
        told = {one.name for one in self.section("parameters")}
        taken = {star(one) for one in self.parameters}
        problems.extend(f"{self.thing.path}: {name} is not described" for name in sorted(taken - told))
        problems.extend(f"{self.thing.path}: {name} is no parameter" for name in sorted(told - taken))
        returns = str(self.caller.returns) if self.caller is not None else "None"
        if returns != "None" and not self.section("returns"):
            problems.append(f"{self.thing.path}: what it returns is not described")
        text = self.thing.docstring.value if self.thing.docstring is not None else ""
        unknown = sorted({name for name in re.findall(r"PB_[A-Z_]*[A-Z]", text) if not known(name)})
        problems.extend(f"{self.thing.path}: {name} is not in the catalogue" for name in unknown)

    def markdown(self) -> Iterator[str]:
        yield from (text + "\n" for text in [self.section("text")] if text)
        described = {one.name: one.description for one in self.section("parameters")}
        rows = [
            (code(star(one)), code(one.annotation), code(one.default), described.get(star(one), ""))
            for one in self.parameters
        ]
        if rows:
            yield from table(("takes", "type", "default", ""), rows)
        yield from (f"**Returns** {cell(one.description)}\n" for one in self.section("returns"))
        raised = [(code(one.annotation), one.description) for one in self.section("raises")]
        if raised:
            yield from table(("raises", "when"), raised)


def star(parameter: griffe.Parameter) -> str:
    """The name as docstrings write it."""
    stars = {"variadic positional": "*", "variadic keyword": "**"}
    return stars.get(parameter.kind.value if parameter.kind is not None else "", "") + parameter.name


def known(name: str) -> bool:
    """A code, or the start of some where the docstring ends with the underscore that is cut here."""
    return name in codes or any(code.startswith(name + "_") for code in codes)


def signature(name: str, function: griffe.Function) -> list[str]:
    parts: list[str] = []
    for one in function.parameters:
        if one.name in ("self", "cls"):
            continue
        if one.kind is griffe.ParameterKind.keyword_only and "*" not in "".join(part[:1] for part in parts):
            parts.append("*")
        default = f" = {one.default}" if one.default is not None and not star(one).startswith("*") else ""
        parts.append(f"{star(one)}: {one.annotation}{default}")
    return ["```python", f"def {name}({', '.join(parts)}) -> {function.returns}", "```", ""]


def is_protocol(thing: griffe.Class) -> bool:
    return any(str(base) == "Protocol" for base in thing.bases)


def attributes(thing: griffe.Class, described: Documented) -> Iterator[str]:
    told = {one.name: one for one in described.section("attributes")}
    fields = {
        name: one
        for name, one in thing.attributes.items()
        if not name.startswith("_") and one.annotation is not None and "property" not in one.labels
    }
    problems.extend(f"{thing.path}: {name} is not described" for name in fields.keys() - told.keys())
    rows = []
    for name, one in told.items():
        field = fields.get(name)
        kind = one.annotation if one.annotation is not None else field and field.annotation
        default = field.value if field is not None else None
        rows.append((code(name), code(kind), code(default), one.description))
    if rows:
        yield from table(("has", "type", "default", ""), rows)


def klass(thing: griffe.Class) -> Iterator[str]:
    described = Documented(thing, None)
    yield f"### {thing.name}\n"
    yield f"`{thing.module.path}`\n"
    yield from described.markdown()
    yield from attributes(thing, described)
    initialiser = thing.members.get("__init__")
    if isinstance(initialiser, griffe.Function) and "dataclass" not in thing.labels:
        yield from function(initialiser, thing.name, f"#### {thing.name}(..)")
    for name, member in thing.members.items():
        if name.startswith("_"):
            continue
        if isinstance(member, griffe.Function):
            yield from function(member, name, f"#### {thing.name}.{name}")
        elif isinstance(member, griffe.Attribute) and "property" in member.labels:
            yield f"#### {thing.name}.{name}\n"
            yield from Documented(member, None).markdown()


def function(thing: griffe.Function, name: str, title: str) -> Iterator[str]:
    yield f"{title}\n"
    yield from signature(name, thing)
    yield from Documented(thing, thing).markdown()


def markdown(thing: Any) -> Iterator[str]:
    """All of a class or function; a protocol is shown as the function that it asks for."""
    if isinstance(thing, griffe.Class) and is_protocol(thing):
        call = thing["__call__"]
        yield f"### {thing.name.lower()}\n"
        yield from signature(thing.name.lower(), call)
        yield from Documented(thing, call).markdown()
    elif isinstance(thing, griffe.Class):
        yield from klass(thing)
    else:
        yield from function(thing, thing.name, f"### {thing.name}\n\n`{thing.module.path}`")
