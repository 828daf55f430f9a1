"""Makes text that user code wrote safe to show: no control characters, bounded. Not here: escaping for HTML."""

from __future__ import annotations

import re
from typing import Final

# C0 and C1 controls except newline and tab, the separators and marks that reorder text, and lone surrogates.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
CUT: Final = " [cut]"


def plain_text(text: str, limit: int) -> str:
    """At most `limit` characters; what a terminal would obey is shown as \\x1b."""
    shown = _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - len(CUT)] + CUT
