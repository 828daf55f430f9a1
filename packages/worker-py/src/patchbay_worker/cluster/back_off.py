"""How long to wait before the next epoch: not at all after one that was good for something, else longer and longer."""

from __future__ import annotations

from typing import Final

#: An epoch that lasted this long has earned a restart at once, as one has that completed a job.
_STABLE_S: Final = 30.0
_FIRST_S: Final = 0.5
_LONGEST_S: Final = 30.0


class BackOff:
    def __init__(self) -> None:
        self._pause_s = 0.0

    def after(self, lasted_s: float, *, completed: int) -> float:
        """Seconds to wait after an epoch that lasted so long and completed so many jobs."""
        earned = completed > 0 or lasted_s > _STABLE_S
        self._pause_s = 0.0 if earned else min(max(2 * self._pause_s, _FIRST_S), _LONGEST_S)
        return self._pause_s
