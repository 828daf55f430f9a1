"""Options of `python -m patchbay_worker.engine`. Not here: what they do (__main__.py, which needs torch)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

AXES: Final = {
    "pp": "pipeline stages",
    "dp": "copies that divide the rows of a batch",
    "tp": "ranks that share every layer",
}


def arguments() -> argparse.ArgumentParser:
    """Every option with its default; pp * dp * tp is the number of processes that torchrun starts."""
    parser = argparse.ArgumentParser(
        prog="python -m patchbay_worker.engine", description="Runs one job on one torch world, without Ray."
    )
    parser.add_argument("--model", required=True, help="a directory or a hub name")
    for axis, meaning in AXES.items():
        parser.add_argument(f"--{axis}", type=int, default=1, metavar="N", help=meaning)
    parser.add_argument("--fsdp", action="store_true", help="the copies of dp share one set of weights")
    parser.add_argument("--experts", action="store_true", help="tp divides the experts only")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="of weights and activations",
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="the device of the ranks")
    parser.add_argument("--job", type=Path, required=True, metavar="FILE", help="the job document")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for result.json and the files beside it"
    )
    parser.add_argument(
        "--artifacts", type=Path, metavar="DIR", help="folder of artifacts by digest; OUT/artifacts if absent"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="events of an earlier start (its stderr): training goes on from there",
    )
    return parser
