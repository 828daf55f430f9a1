"""Prints docs/reference/python.md from the docstrings of what users of the Python side touch. Griffe reads the sources,
so nothing is imported but the options of the engine. What lacks a docstring, a parameter in it or an error code of the
catalogue (JSON on stdin: its codes) is told, and nothing is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import griffe
from docstrings import code, codes, markdown, problems, table

ROOT: Final = Path(__file__).resolve().parents[2]
PATHS: Final = [ROOT / "packages/worker-py/src", ROOT / "packages/protocol/gen/py"]
sys.path[:0] = [str(path) for path in PATHS]
from patchbay_worker.engine.arguments import arguments  # noqa: E402 (the sources of this checkout come first)

HEAD: Final = """# Python

Printed by `npm run gen` from the docstrings of `packages/worker-py`; do not edit. Scripts are TypeScript: in Python
one writes editing functions, losses and modules, which run in the sandbox, and may run the engine alone under torchrun.
"""
JOB: Final = "sandbox.job"
SECTIONS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    (
        "In a job",
        "What the sources of a document define, and what they are called with. How each failure ends a job: "
        "[errors](../errors.md).",
        (
            f"{JOB}.edit.Edit",
            f"{JOB}.edit.Loss",
            f"{JOB}.modules.Build",
            f"{JOB}.edit.CurrentModule",
            f"{JOB}.save_ctx.SaveContext",
            f"{JOB}.modules.JobModules",
            f"{JOB}.modules.build_module",
        ),
    ),
    (
        "The engine, without the stack",
        "Every rank is a process that makes the same calls. `python -m patchbay_worker.engine` does it with files.",
        (
            "engine.engine.Engine",
            "engine.config.EngineConfig",
            "engine.config.JobContext",
            "engine.config.JobOutput",
            "engine.config.Checkpoint",
            "contract.parse_document",
            "artifacts.folder.ArtifactFolder",
            "artifacts.write.write_safetensors",
        ),
    ),
    ("Errors", "", ("errors.PatchbayError", "errors.error", "errors.catalogue")),
)


def options() -> Iterator[str]:
    """The options of the engine's command, from its parser."""
    yield "## python -m patchbay_worker.engine\n"
    yield "Runs one job on one torch world, without Ray. Events go to stderr, one JSON object per line."
    yield "Exit codes: 0 ok, 1 the job failed and stderr has the error as JSON, 2 usage.\n"
    yield "```sh"
    yield "torchrun --nproc-per-node 2 -m patchbay_worker.engine --model DIR --tp 2 --job job.json --out results/"
    yield "```\n"
    rows = []
    for action in arguments()._actions[1:]:  # argparse tells of them nowhere else; the first is --help
        values = " or ".join(action.choices or [str(action.metavar or "") if action.nargs != 0 else ""])
        default = "required" if action.required else code(action.default or None)
        rows.append((f"`{action.option_strings[0]}` {values}".strip(), default, action.help or ""))
    yield from table(("option", "default", ""), rows)


def page() -> str:
    lines = [HEAD]
    for title, text, paths in SECTIONS:
        lines += [f"## {title}\n", *([text + "\n"] if text else [])]
        lines += [line for path in paths for line in markdown(worker[path])]
    return "\n".join([*lines, *options()])


codes.update(json.load(sys.stdin))
worker = griffe.load("patchbay_worker", search_paths=PATHS, allow_inspection=False)
text = page()
if problems:
    sys.exit("\n".join(problems))
print(text.rstrip())
