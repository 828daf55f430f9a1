"""How far a rank has read its weights, by the bar that transformers would draw. Not here: who is told (cluster/)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Final

from transformers.utils.logging import set_tqdm_hook

OnWeights = Callable[[float], None]
"""Takes the part of the weights that has been read, from 0 to 1."""

_PERIOD_S: Final = 0.2
_WEIGHTS: Final = "Loading weights"


@contextmanager
def weights_told(tell: OnWeights) -> Iterator[None]:
    """While it is open, `tell` is called now and then, and at the end of the weights with 1."""

    def bar(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("desc") == _WEIGHTS and args and isinstance(args[0], Sized):
            return _counted(args[0], tell)
        return factory(*args, **kwargs)

    before = set_tqdm_hook(bar)
    try:
        yield
    finally:
        set_tqdm_hook(before)


def _counted(weights: Any, tell: OnWeights) -> Iterator[Any]:
    told = time.monotonic()
    for index, each in enumerate(weights):
        yield each
        if time.monotonic() - told > _PERIOD_S:
            told = time.monotonic()
            tell((index + 1) / len(weights))
    tell(1.0)
