"""What a loaded model looks like from outside (ModelDescription of the protocol), and which checkpoint it was."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.engine.load import LoadedModel
from patchbay_worker.sharding.fsdp import class_name
from patchbay_worker.sharding.probe import dtype_name

POSITION_FIELDS = ("max_position_embeddings", "n_positions", "n_ctx")


@dataclass(frozen=True)
class SandboxState:
    level: str
    probes: list[dict[str, Any]]


def max_positions(loaded: LoadedModel) -> int | None:
    """None for models whose positions have no end."""
    found = (getattr(loaded.text_config, field, None) for field in POSITION_FIELDS)
    return next((value for value in found if isinstance(value, int)), None)


def describe(config: EngineConfig, loaded: LoadedModel, sandbox: SandboxState) -> dict[str, Any]:
    text = loaded.text_config
    return {
        "name": config.name,
        "modelPath": config.model_path,
        "family": loaded.config.model_type,
        "modelSha256": checkpoint_digest(config.model_path),
        "dtype": config.dtype,
        "mesh": config.mesh.to_json(),
        "vocabSize": text.vocab_size,
        "maxPositions": max_positions(loaded) or 0,
        "hiddenSize": text.hidden_size,
        "layers": text.num_hidden_layers,
        "modules": [{"name": name, "className": class_name(module)} for name, module in loaded.modules.items()],
        "parameters": [
            {"name": name, "shape": list(facts.shape), "dtype": dtype_name(facts.dtype)}
            for name, facts in loaded.parameters.items()
        ],
        "sites": [site.to_json() for site in loaded.sites.sites],
        "versions": _versions(),
        "sandboxLevel": sandbox.level,
        "sandboxProbes": sandbox.probes,
    }


def fingerprint(description: dict[str, Any]) -> dict[str, Any]:
    """The part of the description that stands in every result."""
    return {
        "modelSha256": description["modelSha256"],
        **description["versions"],
        "mesh": description["mesh"],
        "dtype": description["dtype"],
        "sandboxLevel": description["sandboxLevel"],
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in ("torch", "transformers", "ray"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # the engine runs without Ray
    return found


def checkpoint_digest(path: str) -> str:
    """SHA-256 over the digests of the checkpoint's safetensors files, in the order of their names."""
    folder = Path(path)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(path, local_files_only=True, allow_patterns=["*.safetensors"]))
        except (LocalEntryNotFoundError, HfHubHTTPError):
            return ""
    total = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        total.update(f"{file.name}\0{_file_digest(file)}\n".encode())
    return total.hexdigest()


def _file_digest(file: Path) -> str:
    # The hub's cache names a large file by its own SHA-256; reading it again would take minutes.
    stored = file.resolve().name
    if file.is_symlink() and len(stored) == 64 and file.resolve().parent.name == "blobs":
        return stored
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
