"""An engine without a model, for tests of what is around it: what a job does is in its label `do`. Models whose name
does not begin with `fake:` go to the real engine. Loaded by ranks through PATCHBAY_ENGINE_MODULE.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from patchbay_worker.engine.config import EngineConfig, JobContext, JobOutput
from patchbay_worker.errors import error

__all__ = ["Engine", "EngineConfig"]

_FOREVER_S = 600.0
ENVIRONMENT = {"PATCHBAY_ENGINE_MODULE": "support.fake_engine"}


def Engine(config: EngineConfig, on_weights: Callable[[float], None] = lambda _: None) -> Any:
    if config.model_path.startswith("fake:"):
        return FakeEngine(config, on_weights)
    from patchbay_worker.engine.engine import Engine as RealEngine

    return RealEngine(config, on_weights)


@dataclass
class FakePrepared:
    context: JobContext
    cancelled: threading.Event

    @property
    def verbs(self) -> list[str]:
        return str(self.context.document["labels"].get("do", "nothing")).split(":")

    def discard(self) -> None:
        FakeEngine.discarded += 1


class FakeEngine:
    """`do`: nothing | events:N | files:BYTES | fail | bug | wait | ignore | die:RANK | stop:RANK | refuse:RANK"""

    discarded = 0

    def __init__(self, config: EngineConfig, on_weights: Callable[[float], None]) -> None:
        self._config = config
        self._executed = 0
        self._prepared: dict[str, FakePrepared] = {}
        self.memory = {"neededBytes": 0, "heldBytes": 0, "processBytes": 0}
        kind = config.model_path.removeprefix("fake:")
        if kind == "indivisible" and config.rank == 1:
            time.sleep(0.3)  # the other rank's broken connection is heard first
            raise error("PB_NOT_DIVISIBLE", field="num_attention_heads", size=3, tp=config.tp)
        if kind in ("indivisible", "broken"):
            raise RuntimeError("connection closed by peer")
        for step in (1, 2, 3, 4):
            on_weights(step / 4)
            time.sleep(0.05)
        self.description = {"name": config.name, "modelPath": config.model_path, "mesh": {"tp": config.tp}}

    def validate(self, document: dict[str, Any]) -> dict[str, Any]:
        if document["labels"].get("do") == "refuse":
            raise error(
                "PB_HOOK_MODULE_NOT_FOUND", model=self._config.name, module="nowhere", path="hooks[0].moduleName"
            )
        return {"warnings": [f"seen by rank {self._config.rank}"]}

    def prepare(self, job: JobContext) -> FakePrepared:
        prepared = FakePrepared(job, threading.Event())
        if prepared.verbs == ["refuse", str(self._config.rank)]:
            raise error("PB_NOT_SHARDABLE", module="x", reason=f"rank {self._config.rank} says so")
        self._prepared[job.job_id] = prepared
        return prepared

    def execute(self, prepared: FakePrepared, emit: Callable[[dict[str, Any]], None]) -> JobOutput | None:
        self._executed += 1
        verb, *rest = prepared.verbs
        files = {}
        if verb == "events" and self._config.rank == 0:
            for step in range(int(rest[0])):
                emit({"type": "progress", "run": "run-0", "done": step, "total": int(rest[0])})
        elif verb == "files" and self._config.rank == 0:
            import torch

            files = {"outputs.safetensors": {"x": torch.zeros(int(rest[0]), dtype=torch.uint8)}}
        elif verb == "fetch" and self._config.rank == 0:
            prepared.context.fetch_artifact(":".join(rest))
        elif verb == "fail":
            raise error("PB_EDIT_FAILED", hook="h", type="ValueError", text=f"rank {self._config.rank}")
        elif verb == "bug":
            raise RuntimeError("an assertion of ours")
        elif verb in ("wait", "ignore"):
            self._wait(prepared, verb == "wait")
        elif verb in ("die", "stop"):
            self._leave(verb, int(rest[0]))
        if self._config.rank != 0:
            return None
        result = {"runs": {}, "timings": {"executed": self._executed, "discarded": FakeEngine.discarded}}
        return JobOutput(result, files, logs="")

    def _wait(self, prepared: FakePrepared, listen: bool) -> None:
        if prepared.cancelled.wait(_FOREVER_S) and listen:
            raise error("PB_JOB_CANCELLED", reason="the fake was told to")
        time.sleep(_FOREVER_S)

    def _leave(self, verb: str, rank: int) -> None:
        if self._config.rank == rank:
            time.sleep(0.5)  # what was sent just after this job still arrives
            os.kill(os.getpid(), signal.SIGKILL if verb == "die" else signal.SIGSTOP)
        time.sleep(_FOREVER_S)  # as in a collective whose peer is gone

    def cancel(self, job_id: str, reason: str) -> None:
        if job_id in self._prepared:
            self._prepared[job_id].cancelled.set()

    def close(self) -> None:
        return
