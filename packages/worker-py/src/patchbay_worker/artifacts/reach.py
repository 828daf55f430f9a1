"""Whether results can be delivered at all: asked once, before a deployment counts as ready, from the node that will
send them. Not here: sending (`transfer.py`).
"""

from __future__ import annotations

from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin
from urllib.request import ProxyHandler, build_opener

from patchbay_worker.errors import error

_ANSWER_S: Final = 5.0


def require_reachable(url: str, node: str) -> None:
    """Any answer will do, also one that says no. Raises PB_ARTIFACT_URL_UNREACHABLE."""
    direct = build_opener(ProxyHandler({}))  # results do not go through a proxy either
    try:
        with direct.open(urljoin(url, "/healthz"), timeout=_ANSWER_S):
            return
    except HTTPError:
        return
    except (URLError, HTTPException, OSError, ValueError) as problem:
        reason = str(getattr(problem, "reason", problem)) or type(problem).__name__
        raise error("PB_ARTIFACT_URL_UNREACHABLE", node=node, url=url, reason=reason) from problem
