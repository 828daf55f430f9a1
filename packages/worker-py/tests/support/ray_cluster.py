"""A Ray head of our own for tests: free ports, token authentication, its own process group and folder; all of it is
gone afterwards. `ray stop` is never used: it would end every Ray of the machine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
PYTHON_PATH = os.pathsep.join(
    str(path) for path in (PACKAGE / "src", PACKAGE.parent / "protocol" / "gen" / "py", PACKAGE / "tests")
)
_START_S = 90.0


@dataclass(frozen=True)
class RayCluster:
    """`env` is what a driver needs to reach it; `client_address` is for Ray Client (ray://)."""

    address: str
    client_address: str
    folder: Path
    env: Mapping[str, str]

    def logs(self, pattern: str = "*.err") -> str:
        """Logs of the actors: what to look at when a test fails."""
        found = sorted((self.folder / "session_latest" / "logs").glob(pattern))
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')}" for path in found if path.stat().st_size
        )


def free_ports(count: int) -> list[int]:
    """Not held: another process may take one before it is used."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def ray_cluster(num_cpus: int = 8, extra_env: Mapping[str, str] | None = None) -> Iterator[RayCluster]:
    """A running head; the context ends with nothing of it left."""
    folder = Path(tempfile.mkdtemp(prefix="pbr", dir="/tmp"))  # sockets below it must stay under 108 bytes
    gcs, client, agent = free_ports(3)
    env = {
        **os.environ,
        "PYTHONPATH": PYTHON_PATH,
        "PYTHONDONTWRITEBYTECODE": "",
        "OMP_NUM_THREADS": "1",
        "GRPC_ENABLE_FORK_SUPPORT": "0",  # else the server of a Ray Client, forked beside gRPC's threads, often hangs
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ADDRESS": f"127.0.0.1:{gcs}",
        **(extra_env or {}),
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--no-monitor"]
    command += ["--disable-usage-stats", "--include-dashboard=false", "--include-log-monitor=false"]
    command += [f"--port={gcs}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
    command += ["--min-worker-port=0", "--max-worker-port=0", f"--num-cpus={num_cpus}"]
    command += ["--object-store-memory=100000000", f"--temp-dir={folder}"]
    log = folder / "head.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait_until_started(process, log)
        yield RayCluster(f"127.0.0.1:{gcs}", f"ray://127.0.0.1:{client}", folder, env)
    finally:
        _end_group(process)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_started(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while "Ray runtime started" not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"ray did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.1)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM would drain for long; agents survive the head's end, so the group is killed in any case."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue
