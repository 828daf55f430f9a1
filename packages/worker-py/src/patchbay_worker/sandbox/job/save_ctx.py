"""`save_ctx`: the namespace that all edits of a job share. Not here: what of it reaches the user (export.py)."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class SaveContext:
    """Attributes and items are the same thing: `save_ctx.x`, `save_ctx["x"]`, `"x" in save_ctx`, `len`, iteration.

    It belongs to the job: what one run stores the next one finds. At the end of the job tensors and arrays go into
    `save_ctx.safetensors`, numbers, texts, lists and dicts into `saveCtx` of `result.json`; what has no form there is
    left out with a warning. An input may be stored as it is: later calls do not overwrite it.

    Raises:
        AttributeError: when an attribute is read that nobody has stored; the message lists those that there are.
        KeyError: the same for an item.
    """

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
        """What is stored.

        Args:
            name: the attribute.
            default: given back where there is none.

        Returns:
            The value, or `default`.
        """
        return self.__dict__.get(name, default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """What is stored; where there is nothing, `default`, which is then stored: for what calls add to.

        Args:
            name: the attribute.
            default: stored where there is none.

        Returns:
            The value that is stored now.
        """
        return self.__dict__.setdefault(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """Takes a value out, so that it is not in the result.

        Args:
            name: the attribute.
            *default: given back where there is none.

        Returns:
            The value, or `default`.

        Raises:
            KeyError: there is neither.
        """
        return self.__dict__.pop(name, *default)

    def keys(self) -> KeysView[str]:
        """Names, in the order in which they were stored.

        Returns:
            A view, as of a dict.
        """
        return self.__dict__.keys()

    def values(self) -> ValuesView[Any]:
        """Values, in the order in which they were stored.

        Returns:
            A view, as of a dict.
        """
        return self.__dict__.values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values, in the order in which they were stored.

        Returns:
            A view, as of a dict.
        """
        return self.__dict__.items()
