"""Puts the files of a result where its reader finds them: inside of the result while all of them together are small,
in the artifact store otherwise. Not here: which files a job has.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from patchbay_worker.artifacts.transfer import ArtifactStore, digest

#: All files of a result together; below it a round trip to the store costs more than the bytes.
INLINE_LIMIT: Final = 64 * 1024


def place_files(files: Mapping[str, bytes], store: ArtifactStore) -> dict[str, dict[str, Any]]:
    """`result.files`: name -> {sha256, bytes, inline?}."""
    small = sum(len(data) for data in files.values()) <= INLINE_LIMIT
    placed: dict[str, dict[str, Any]] = {}
    for name, data in files.items():
        if small:
            inline = base64.b64encode(data).decode("ascii")
            placed[name] = {"sha256": digest(data), "bytes": len(data), "inline": inline}
        else:
            placed[name] = {"sha256": store.put(data), "bytes": len(data)}
    return placed
