"""`save_ctx`: the namespace that all edits of a job share. Not here: what of it reaches the user (export.py)."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class SaveContext:
    """Attributes and items are the same thing: `save_ctx.x`, `save_ctx["x"]`, `"x" in save_ctx`."""

    def __getattr__(self, name: str) -> Any:
        # Reached only when nothing of this name has been stored.
        raise AttributeError(f'save_ctx has no "{name}"; it has: {", ".join(map(str, self.__dict__)) or "nothing yet"}')

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def __delitem__(self, name: str) -> None:
        del self.__dict__[name]

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __repr__(self) -> str:
        return f"save_ctx({', '.join(map(str, self.__dict__))})"

    def get(self, name: str, default: Any = None) -> Any:
        return self.__dict__.get(name, default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        return self.__dict__.setdefault(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        return self.__dict__.pop(name, *default)

    def keys(self) -> KeysView[str]:
        return self.__dict__.keys()

    def values(self) -> ValuesView[Any]:
        return self.__dict__.values()

    def items(self) -> ItemsView[str, Any]:
        return self.__dict__.items()
