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

from patchbay_worker.artifacts.write import write_safetensors
from patchbay_worker.contract import parse_document
from patchbay_worker.engine.config import EngineConfig, JobContext, JobOutput
from patchbay_worker.engine.engine import Engine
from patchbay_worker.errors import PatchbayError, error


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m patchbay_worker.engine", description=__doc__)
    parser.add_argument("--model", required=True, help="a directory or a hub name")
    for axis in ("pp", "dp", "tp"):
        parser.add_argument(f"--{axis}", type=int, default=1)
    parser.add_argument("--fsdp", action="store_true", help="the copies of dp share one set of weights")
    parser.add_argument("--experts", action="store_true", help="tp divides the experts only")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--job", type=Path, required=True, help="the job document")
    parser.add_argument("--out", type=Path, required=True, help="folder for result.json and the files beside it")
    return parser.parse_args()


def _config(arguments: argparse.Namespace) -> EngineConfig:
    environment = os.environ
    return EngineConfig(
        model_path=arguments.model,
        name=Path(arguments.model).name,
        pp=arguments.pp,
        dp=arguments.dp,
        tp=arguments.tp,
        fsdp=arguments.fsdp,
        experts=arguments.experts,
        dtype=arguments.dtype,
        device=arguments.device,
        rank=int(environment.get("RANK", "0")),
        world_size=int(environment.get("WORLD_SIZE", "1")),
        master_addr=environment.get("MASTER_ADDR", "127.0.0.1"),
        master_port=int(environment.get("MASTER_PORT", "0")),
    )


def _no_artifacts(digest: str) -> bytes:
    raise error("PB_ARTIFACT_NOT_FOUND", artifact=digest, hint="There is no artifact store without the stack.")


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
    arguments = _arguments()
    engine = Engine(_config(arguments))
    try:
        document = parse_document(arguments.job.read_bytes())
        context = JobContext("torchrun", 1, document, None, _no_artifacts)
        output = engine.execute(engine.prepare(context), _print_event)
    except PatchbayError as failure:
        print(json.dumps(failure.to_json()), file=sys.stderr)
        return 1
    finally:
        engine.close()
    if output is not None:
        _write(output, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
