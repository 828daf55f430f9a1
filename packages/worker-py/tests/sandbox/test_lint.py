"""What a source is warned of before its first edit: by line, bounded, and never in the way."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from patchbay_worker.sandbox.job.lint import MOST, lint

from .conftest import StartJob
from .support import edit, refused, run

FOUND = {
    "import socket": "import socket: an edit has no network",
    "import os, urllib.request as u": "import urllib.request: an edit has no network",
    "from subprocess import run": "import subprocess: an edit has no other processes",
    "x = open('f')": "open(): an edit has no files",
    "torch.save(1, 'f')": "torch.save(): an edit has no files",
    "torch.hub.load('a', 'b')": "torch.hub.load(): an edit has no network",
    "os.system('ls')": "os.system(): an edit has no other processes",
    "inputs.cuda()": "the sandbox has no GPU",
    "inputs.to('cuda:0')": "the sandbox has no GPU",
}
QUIET = [
    "import math, ctypes, einops",
    "self.open('f')",
    "def load(x): return x",
    "inputs.to('cpu').to(torch.float16)",
    "from . import socket",
    "reopen = 'open(1)'  # open()",
    "not python at all (",
    "x = '\0'",
    "-" * 100_000 + "1",
    "a" + ".b" * 5_000 + "()",
]


@pytest.mark.parametrize("text", FOUND)
def test_what_will_be_refused_is_found_with_its_line(text: str) -> None:
    ((line, what),) = lint(f"x = 1\n\n{text}\n")
    assert line == 3
    assert what.startswith(FOUND[text])


@pytest.mark.parametrize("text", QUIET, ids=lambda text: text[:20])
def test_what_is_fine_or_no_python_is_not(text: str) -> None:
    assert lint(text) == []


def test_warnings_are_few_and_short() -> None:
    source = "\n".join(f"import socket.{'a' * 9_000}{n}" for n in range(100))
    found = lint(source)
    assert len(found) == MOST
    assert sum(len(what) for _, what in found) < 4_000


def test_a_warning_is_no_wall(start: StartJob) -> None:
    job = start("import socket\n" + edit("return inputs + 1"))
    assert job.warnings == [("hook-0", 1, "import socket: an edit has no network")]
    assert run(job, torch.zeros(1)).item() == 1


def test_forged_warnings_are_bounded_or_end_the_job(start: StartJob) -> None:
    forge = "import patchbay_worker.sandbox.job.server as s\ns.lint = lambda _: WARNINGS\n"
    many = forge.replace("WARNINGS", "[(n, '\\x1b' + 'x' * 500) for n in range(20)]")
    plain = edit("return inputs")
    job = start(many + plain, plain)
    assert len(job.warnings) == 20
    assert all(len(what) <= 400 and "\x1b" not in what for _, _, what in job.warnings)
    for wrong in ("[1]", "[[1, 2, 3]]"):
        refused("PB_EDIT_CRASHED", partial(start, forge.replace("WARNINGS", wrong) + plain, plain))
