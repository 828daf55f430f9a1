"""Artifacts in a local folder, named by their digest: what a machine without the stack has for a store."""

from __future__ import annotations

import os
from pathlib import Path

from patchbay_worker.artifacts.transfer import digest
from patchbay_worker.errors import error


class ArtifactFolder:
    """`fetch_artifact` and `store_artifact` of a `JobContext`, by `get` and `put`."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first `put`.

        Args:
            folder: holds a file per artifact, named by its hex digest.
        """
        self._folder = folder

    def get(self, reference: str) -> bytes:
        """Reads an artifact and compares it with its digest.

        Args:
            reference: `sha256:<hex>`.

        Returns:
            Its bytes.

        Raises:
            PatchbayError: PB_ARTIFACT_NOT_FOUND, PB_ARTIFACT_CORRUPT.
        """
        path = self._folder / reference.removeprefix("sha256:")
        if not path.is_file():
            raise error("PB_ARTIFACT_NOT_FOUND", artifact=reference, hint=f"There is no file {path}.")
        data = path.read_bytes()
        if digest(data) != path.name:
            raise error("PB_ARTIFACT_CORRUPT", artifact=reference, reason=f"{path} has the digest {digest(data)}")
        return data

    def put(self, data: bytes) -> str:
        """Stores the bytes; a reader never sees half of them.

        Args:
            data: any bytes.

        Returns:
            Their SHA-256, 64 hex digits.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        name = digest(data)
        unfinished = self._folder / f".{name}.{os.getpid()}"
        unfinished.write_bytes(data)
        unfinished.replace(self._folder / name)
        return name
