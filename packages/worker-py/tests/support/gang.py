"""A gang of rank processes under test, driven as the supervisor drives them: prepare on all, then go or abort.

The processes are started once per tp and load one model after another. Not here: Ray, sockets.
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import safetensors.torch
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from patchbay_worker.artifacts.folder import ArtifactFolder
from patchbay_worker.contract import parse_document
from patchbay_worker.engine.config import EngineConfig, JobContext
from patchbay_worker.engine.engine import Engine
from patchbay_worker.engine.job.prepare import PreparedJob
from patchbay_worker.engine.run import brake
from patchbay_worker.errors import PatchbayError, error
from support.recorder import Entry, Recorder

WAIT_S = 120.0
PRELOAD = ["torch.distributed.tensor", "transformers.models.llama.modeling_llama", "transformers.distributed.mixin"]
"""What every rank imports for seconds: once, in the process that they are forked from."""
JOB = "job"


@dataclass
class Outcome:
    """What a job gave on rank 0."""

    result: dict[str, Any]
    files: dict[str, dict[str, Tensor]]
    logs: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def tensor(self, key: str, file: str = "outputs.safetensors") -> Tensor:
        return self.files[file][key]

    def captured(self, key: str) -> Tensor:
        return self.tensor(key, "activations.safetensors")

    def report(self, hook: str, run: str | None = None) -> dict[str, Any]:
        return next(each for each in self.result["hooks"] if each["hook"] == hook and run in (None, each["run"]))


class Gang:
    """The rank processes of a mesh. Use as a context manager."""

    def __init__(self, tp: int, *, pp: int = 1, dp: int = 1, fsdp: bool = False, experts: bool = False) -> None:
        self.tp, self.fsdp = tp, fsdp
        self.mesh: dict[str, Any] = {"pp": pp, "dp": dp, "tp": tp}
        self._flags = {"fsdp": fsdp, "experts": experts}
        os.environ["PYTHONHASHSEED"] = "0"  # as the stack sets it: some model code walks sets
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._pristine: list[tuple[str, int]] = []
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(pp * dp * tp):
            ours, theirs = context.Pipe()
            process = context.Process(target=rank_main, args=(rank, theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def load(self, model: Path, **config: Any) -> dict[str, Any]:
        """Loads a model on all ranks in place of the one before; returns its description."""
        settings = {
            "model_path": str(model),
            "name": model.name,
            **self.mesh,
            **self._flags,
            "master_port": free_port(),
            **config,
        }
        descriptions = self._ask_all(("load", settings))
        assert all(each == descriptions[0] for each in descriptions)
        self._pristine = self.state()
        return dict(descriptions[0])

    def run(self, document: dict[str, Any], artifacts: dict[str, bytes] | None = None, **context: Any) -> Outcome:
        self.prepare(document, artifacts, **context)
        return self.go()

    def prepare(self, document: dict[str, Any], artifacts: dict[str, bytes] | None = None, **context: Any) -> None:
        whole = {"version": 1, "model": "m", **document}
        try:
            self._ask_all(("prepare", whole, artifacts or {}, context))
        except PatchbayError:
            self._ask_all(("abort",))
            raise

    def go(self) -> Outcome:
        self.start()
        return self.finish()

    def start(self) -> None:
        """Like `go`, without waiting; `finish` waits."""
        self._send_all(("go",))

    def finish(self) -> Outcome:
        """After every job, failed ones too, weights, buffers and hooks have to be what they were."""
        try:
            result, files, logs, events = self._answers()[0]
        finally:
            assert self.state() == self._pristine, "the job left a trace on the model"
        return Outcome(result, {name: safetensors.torch.load(data) for name, data in files.items()}, logs, events)

    def cancel(self, reason: str) -> None:
        self._send_all(("cancel", reason))

    def validate(self, document: dict[str, Any]) -> dict[str, Any]:
        return dict(self._ask_all(("validate", {"version": 1, "model": "m", **document}))[0])

    def events(self) -> list[dict[str, Any]]:
        """What rank 0 told during the last job, also if that failed."""
        return list(self._ask_all(("events",))[0])

    def record(self, *, detailed: bool = False) -> None:
        """From now on every rank writes down its collectives."""
        self._ask_all(("record", detailed))

    def recorded(self) -> list[list[Entry]]:
        """Ends that; what each rank wrote."""
        return self._ask_all(("recorded",))

    def state(self) -> list[tuple[str, int]]:
        """Per rank: a digest of all weights and buffers, and how many hooks and gradients are on the model."""
        return [(digest, hooks) for digest, hooks in self._ask_all(("state",))]

    def tensors(self) -> list[int]:
        """Per rank: how many there are."""
        return self._ask_all(("tensors",))

    def memory(self) -> list[dict[str, int]]:
        """Per rank: bytes that the shard was to need, and that it holds."""
        return self._ask_all(("memory",))

    def close(self) -> None:
        self._send_all(("leave",))
        for process in self._processes:
            process.join(WAIT_S)
            if process.is_alive():
                process.kill()

    def __enter__(self) -> Gang:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send_all(self, message: tuple[Any, ...]) -> None:
        for pipe in self._pipes:
            pipe.send(message)

    def _ask_all(self, message: tuple[Any, ...]) -> list[Any]:
        self._send_all(message)
        return self._answers()

    def _answers(self) -> list[Any]:
        answers = []
        for rank, pipe in enumerate(self._pipes):
            if not pipe.poll(WAIT_S):
                raise TimeoutError(f"rank {rank} does not answer")
            answers.append(pipe.recv())
        for failed, value in answers:
            if failed:
                raise PatchbayError.from_json(value) if isinstance(value, dict) else RuntimeError(value)
        return [value for _, value in answers]


def count_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(value), Tensor) for value in gc.get_objects())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RankProcess:
    """The far side: one thread reads, the main thread works, so that a cancel arrives during a job."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.engine: Engine | None = None
        self.prepared: PreparedJob | None = None
        self.events: list[dict[str, Any]] = []
        self.recorder = Recorder()

    def answer(self, message: tuple[Any, ...]) -> Any:
        handlers: dict[str, Callable[..., Any]] = {
            "load": self.load,
            "prepare": self.prepare,
            "abort": self.abort,
            "go": self.go,
            "validate": lambda document: self.loaded.validate(parse_document(document)),
            "state": self.state,
            "events": lambda: self.events,
            "memory": lambda: self.loaded.memory,
            "tensors": count_tensors,
            "record": self.record,
            "recorded": lambda: self.recorder.stop(),
        }
        return handlers[message[0]](*message[1:])

    @property
    def loaded(self) -> Engine:
        assert self.engine is not None
        return self.engine

    def load(self, settings: dict[str, Any]) -> dict[str, Any]:
        if self.engine is not None:
            self.engine.close()
            self.engine = None
        size = settings["pp"] * settings["dp"] * settings["tp"]
        config = EngineConfig(**{"rank": self.rank, "world_size": size, "master_addr": "127.0.0.1", **settings})
        self.engine = Engine(config)
        return self.engine.description

    def prepare(self, document: dict[str, Any], artifacts: dict[str, bytes], context: dict[str, Any]) -> None:
        def given(digest: str) -> bytes:
            if digest not in artifacts:
                raise error("PB_ARTIFACT_NOT_FOUND", artifact=digest)
            return artifacts[digest]

        fetch: Callable[[str], bytes] = given
        settings = {"deadline_unix_ms": None, **context}
        if "folder" in settings:
            folder = ArtifactFolder(settings.pop("folder"))
            settings["store_artifact"] = folder.put
            fetch = folder.get
        job = JobContext(job_id=JOB, attempt=1, document=parse_document(document), fetch_artifact=fetch, **settings)
        self.prepared = self.loaded.prepare(job)

    def abort(self) -> None:
        if self.prepared is not None:
            self.prepared.discard()
            self.prepared = None

    def go(self) -> Any:
        prepared, self.prepared = self.prepared, None
        assert prepared is not None
        self.events = []
        output = self.loaded.execute(prepared, self.events.append)
        if output is None:
            return None
        files = {
            name: safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()})
            for name, tensors in output.files.items()
        }
        return output.result, files, output.logs, self.events

    def state(self) -> tuple[str, int]:
        model = self.loaded._loaded.model
        digest = hashlib.sha256()
        tensors = {**dict(model.named_buffers()), **model.state_dict()}  # buffers that are not saved too
        for name, value in sorted(tensors.items()):
            local = value.to_local() if isinstance(value, DTensor) else value
            digest.update(name.encode())
            digest.update(local.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        left = sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
        left += sum(bool(value.requires_grad or value._backward_hooks) for value in model.parameters())
        left += sum(value.grad is not None for value in model.parameters())
        return digest.hexdigest(), left

    def record(self, detailed: bool) -> None:
        self.recorder = Recorder(detailed=detailed)
        self.recorder.start()


def rank_main(rank: int, pipe: Connection) -> None:
    # The ranks agree before every layer: how far apart they do depends on the clock otherwise.
    patch.object(brake, "PERIOD_S", 0.0).start()
    process = RankProcess(rank)
    inbox: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def read() -> None:
        while True:
            message = pipe.recv()
            if message[0] == "cancel":
                process.loaded.cancel(JOB, message[1])
                continue
            inbox.put(message)
            if message[0] == "leave":
                return

    threading.Thread(target=read, daemon=True).start()
    while (message := inbox.get())[0] != "leave":
        try:
            pipe.send((False, process.answer(message)))
        except PatchbayError as failure:
            pipe.send((True, failure.to_json()))
        except Exception as failure:  # the test must see it instead of a time-out
            pipe.send((True, f"{type(failure).__name__}: {failure}"))
    if process.engine is not None:
        process.engine.close()
