"""infra/seccomp and infra/apparmor do what docs/security.md says, in what a container is made of (container.py)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from patchbay_worker.sandbox.level.fixes import DOCKER, KUBERNETES, fix_for
from patchbay_worker.sandbox.lockdown.plan import LayerFailed

ROOT = Path(__file__).parents[5]
OURS = ROOT / "infra/seccomp/patchbay.json"
APPARMOR = ROOT / "infra/apparmor/patchbay"
NEW_NAMESPACES = 2114060288
CONTAINER = Path(__file__).with_name("container.py")
PARSER = shutil.which("apparmor_parser")
as_root = pytest.mark.skipif(os.getuid() != 0, reason="NOT RUN: a container's set-up needs root")

# What Docker's default profile holds back from a container without CAP_SYS_ADMIN, of what the sandbox uses: moby's
# profiles/seccomp/default.json, the rules that include that capability, and pivot_root, which no rule names.
WITHHELD = "mount umount umount2 unshare setns pivot_root mount_setattr open_tree move_mount fsopen fsmount sethostname"
DEFAULT: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": WITHHELD.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        *(
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 1,
                "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}],
            }
            for flag in (1 << bit for bit in range(32))
            if flag & NEW_NAMESPACES
        ),
    ],
}


def inside(tmp_path: Path, profile: Path, *command: str, **environment: str) -> str:
    folder = tmp_path / "container"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(CONTAINER), str(profile), str(folder), sys.executable, *command],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def level_in(tmp_path: Path, profile: Path, **environment: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(inside(tmp_path, profile, "-m", "patchbay_worker.sandbox.level", **environment))
    return found


@pytest.fixture
def default_profile(tmp_path: Path) -> Path:
    file = tmp_path / "default.json"
    file.write_text(json.dumps(DEFAULT), encoding="utf-8")
    return file


@as_root
def test_our_profile_lets_a_container_reach_isolated(tmp_path: Path) -> None:
    found = level_in(tmp_path, OURS, PATCHBAY_SANDBOX_MINIMUM="isolated")
    assert (found["level"], found["refusal"]) == ("isolated", None)
    assert [probe for probe in found["probes"] if not probe["ok"] and probe["name"] != "cgroup"] == []


@as_root
def test_the_default_profile_leads_to_confined_and_to_ours(tmp_path: Path, default_profile: Path) -> None:
    found = level_in(tmp_path, default_profile, PATCHBAY_SANDBOX_MINIMUM="isolated")
    assert found["level"] == "confined"
    assert found["refusal"]["code"] == "PB_SANDBOX_LEVEL"
    assert DOCKER in found["refusal"]["hint"]
    assert "infra/seccomp/patchbay.json" in DOCKER
    assert {probe["name"] for probe in found["probes"] if not probe["ok"]} == {"namespaces", "cgroup"}


def test_in_a_pod_the_fix_is_that_of_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert fix_for(LayerFailed("namespaces", "unshare: Operation not permitted")) == KUBERNETES
    assert "infra/seccomp/patchbay.json" in KUBERNETES


CALLS = """
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
def code(nr):
    result = libc.syscall(ctypes.c_long(nr), *(ctypes.c_long(-1),) * 6)
    return errno.errorcode.get(ctypes.get_errno(), "?") if result < 0 else "ok"
import pyseccomp
names = json.loads(NAMES)
numbers = {name: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) for name in names}
print(json.dumps({name: code(number) for name, number in numbers.items() if number >= 0}))
"""


@as_root
def test_our_profile_still_holds_what_it_names(tmp_path: Path) -> None:
    names = [name for rule in json.loads(OURS.read_text())["syscalls"] for name in rule["names"]]
    codes = json.loads(inside(tmp_path, OURS, "-c", CALLS.replace("NAMES", repr(json.dumps(names)))))
    assert len(codes) > 35
    assert set(codes.values()) == {"EPERM"}


def parser_version(parser: str) -> int:
    told = subprocess.run([parser, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)", told)
    return int(found[1]) if found else 0


def test_the_profile_for_apparmor_is_understood(tmp_path: Path) -> None:
    version = (
        subprocess.run([PARSER, "--version"], capture_output=True, text=True, check=False).stdout if PARSER else ""
    )
    found = re.search(r"version (\d+)", version)
    if PARSER is None or found is None or int(found[1]) < 4:
        pytest.skip("NOT RUN: apparmor_parser 4 or later (Debian 13, Ubuntu 24.04: apt-get install apparmor)")

    def parse(text: str) -> int:
        file = tmp_path / "profile"
        file.write_text(text, encoding="utf-8")
        return subprocess.run([str(PARSER), "-Q", "-K", str(file)], capture_output=True, check=False).returncode

    text = APPARMOR.read_text(encoding="utf-8")
    assert parse(text) == 0
    assert parse(text.replace("userns,", "usernss,")) != 0, "the parser looks"
