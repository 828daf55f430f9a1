"""Runs one job on one torch world under torchrun, without Ray: how a lone GPU machine is tested.

torchrun --nproc-per-node 2 -m patchbay_worker.engine --model DIR --tp 2 --job job.json --out DIR
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from patchbay_worker.artifacts.folder import ArtifactFolder
from patchbay_worker.artifacts.write import write_safetensors
from patchbay_worker.contract import parse_document
from patchbay_worker.engine.arguments import arguments
from patchbay_worker.engine.config import Checkpoint, EngineConfig, JobContext, JobOutput
from patchbay_worker.engine.engine import Engine
from patchbay_worker.errors import PatchbayError


def _config(given: argparse.Namespace) -> EngineConfig:
    environment = os.environ
    return EngineConfig(
        model_path=given.model,
        name=Path(given.model).name,
        pp=given.pp,
        dp=given.dp,
        tp=given.tp,
        fsdp=given.fsdp,
        experts=given.experts,
        dtype=given.dtype,
        device=given.device,
        rank=int(environment.get("RANK", "0")),
        world_size=int(environment.get("WORLD_SIZE", "1")),
        master_addr=environment.get("MASTER_ADDR", "127.0.0.1"),
        master_port=int(environment.get("MASTER_PORT", "0")),
    )


def _resume(path: Path | None) -> dict[str, Checkpoint]:
    """From the events of an earlier start: the last checkpoint of every training run."""
    found: dict[str, Checkpoint] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path is not None else []:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("type") == "artifact" and "run" in event:
            found[event["run"]] = Checkpoint(event["sha256"], event["step"])
    return found


def _print_event(event: dict[str, Any]) -> None:
    print(json.dumps(event), file=sys.stderr)


def _write(output: JobOutput, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(output.result, indent=1), encoding="utf-8")
    for name, tensors in output.files.items():
        (folder / name).write_bytes(write_safetensors(tensors))
    if output.logs:
        (folder / "logs.txt").write_text(output.logs, encoding="utf-8")


def main() -> int:
    given = arguments().parse_args()
    engine = Engine(_config(given))
    try:
        document = parse_document(given.job.read_bytes())
        folder = ArtifactFolder(given.artifacts if given.artifacts is not None else given.out / "artifacts")
        context = JobContext(
            job_id="torchrun",
            attempt=1,
            document=document,
            deadline_unix_ms=None,
            fetch_artifact=folder.get,
            store_artifact=folder.put,
            resume=_resume(given.resume),
        )
        output = engine.execute(engine.prepare(context), _print_event)
    except PatchbayError as failure:
        print(json.dumps(failure.to_json()), file=sys.stderr)
        return 1
    finally:
        engine.close()
    if output is not None:
        _write(output, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
