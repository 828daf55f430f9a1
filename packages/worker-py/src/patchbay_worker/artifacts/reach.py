"""Whether results can be delivered at all: asked once, before a deployment counts as ready, from the node that will
send them. Not here: sending (`transfer.py`).
"""

from __future__ import annotations

import time
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin
from urllib.request import ProxyHandler, build_opener

from patchbay_worker.errors import error

_ANSWER_S: Final = 5.0
_PATIENCE_S: Final = 12.0
"""An orchestrator that starts again, or stands still for longer than its leases, is no reason to refuse a model."""
_PAUSE_S: Final = 0.5


def require_reachable(url: str, node: str) -> None:
    """Any answer will do, also one that says no. Raises PB_ARTIFACT_URL_UNREACHABLE."""
    end = time.monotonic() + _PATIENCE_S
    while (problem := _what_is_wrong(url)) is not None:
        if time.monotonic() > end or isinstance(problem, ValueError):
            reason = str(getattr(problem, "reason", problem)) or type(problem).__name__
            raise error("PB_ARTIFACT_URL_UNREACHABLE", node=node, url=url, reason=reason) from problem
        time.sleep(_PAUSE_S)


def _what_is_wrong(url: str) -> Exception | None:
    direct = build_opener(ProxyHandler({}))  # results do not go through a proxy either
    try:
        with direct.open(urljoin(url, "/healthz"), timeout=_ANSWER_S):
            return None
    except HTTPError:
        return None
    except (URLError, HTTPException, OSError, ValueError) as problem:
        return problem
