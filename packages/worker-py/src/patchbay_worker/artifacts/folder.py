"""Artifacts in a local folder, named by their digest: what a machine without the stack has for a store."""

from __future__ import annotations

import os
from pathlib import Path

from patchbay_worker.artifacts.transfer import digest
from patchbay_worker.errors import error


class ArtifactFolder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, reference: str) -> bytes:
        """The bytes of `sha256:<hex>`. Raises PB_ARTIFACT_NOT_FOUND, PB_ARTIFACT_CORRUPT."""
        path = self._folder / reference.removeprefix("sha256:")
        if not path.is_file():
            raise error("PB_ARTIFACT_NOT_FOUND", artifact=reference, hint=f"There is no file {path}.")
        data = path.read_bytes()
        if digest(data) != path.name:
            raise error("PB_ARTIFACT_CORRUPT", artifact=reference, reason=f"{path} has the digest {digest(data)}")
        return data

    def put(self, data: bytes) -> str:
        """Stores the bytes and returns their digest; a reader never sees half of them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = digest(data)
        unfinished = self._folder / f".{name}.{os.getpid()}"
        unfinished.write_bytes(data)
        unfinished.replace(self._folder / name)
        return name
