"""The attacks at `confined` once more, by a worker that an ordinary user has started: its jobs share its uid.

The suite mostly runs as root, whose jobs become another user; what holds by that alone would show here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ("test_attacks.py", "test_ends.py")
UID = 1234


@pytest.mark.skipif(os.getuid() != 0, reason="this whole run is an ordinary user's")
def test_what_holds_as_root_holds_for_an_ordinary_user(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):  # pytest keeps them to its own user
        folder.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, UID, UID)
    reachable = subprocess.run([sys.executable, "-c", ""], cwd=HERE, user=UID, group=UID, extra_groups=(), check=False)
    if reachable.returncode != 0:
        pytest.skip(f"NOT RUN: uid {UID} cannot read this checkout")
    command = [sys.executable, "-B", "-m", "pytest", *(str(HERE / name) for name in FILES), "-k", "confined"]
    done = subprocess.run(
        [*command, f"--basetemp={home / 'base'}"],
        cwd=HERE.parents[2],
        env={**os.environ, "HOME": str(home), "TMPDIR": str(home)},
        user=UID,
        group=UID,
        extra_groups=(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) >= 10, done.stdout
