"""How sure a bench is of its number: the statistic of rounds drawn again and again (bootstrap, Efron 1979)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

Round = tuple[float, ...]
"""Seconds of the cases that are compared; they stay together, since what slows one of a round slows the others."""
DRAWS: Final = 2000


def spread(rounds: Sequence[Round], statistic: Callable[[Sequence[Round]], float]) -> list[float]:
    """Between what and what the statistic lies in 95 % of DRAWS times as many rounds, drawn with replacement."""
    draw = random.Random(0)
    found = sorted(statistic(draw.choices(rounds, k=len(rounds))) for _ in range(DRAWS))
    cut = round(DRAWS * 0.025)
    return [round(found[cut], 3), round(found[-1 - cut], 3)]
