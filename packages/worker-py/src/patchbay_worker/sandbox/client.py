"""One sandbox job as the engine uses it: init, many edits, collect.

After a time-out, a crash or a bad reply the job is dead, and each later call raises the same error again.
Not here: requests and replies (channel.py), shared memory (arena.py), processes (job_process.py), models and hooks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch
from torch import Tensor

from patchbay_worker.errors import error
from patchbay_worker.sandbox.arena import Arena
from patchbay_worker.sandbox.channel import Channel, Deadline
from patchbay_worker.sandbox.collect import MAX_WARNINGS, WARNING_CHARS, SandboxResult, collect
from patchbay_worker.sandbox.job_process import JobProcess
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.wire.dtypes import name_of
from patchbay_worker.sandbox.wire.message import Kind, Message, WireError, encode_facts
from patchbay_worker.sandbox.wire.text import plain_text

ModuleKind = Literal["linear", "lowRank", "mlp", "python"]
SET_UP: Final = "(set-up)"
SAVE_CTX: Final = "(save_ctx)"
TRAINING: Final = "(training)"
"""Stand for a hook's name in messages about what belongs to no hook."""
UNKNOWN: Final = object()
"""Stands for a batch that the job may or may not have."""
RESTORE_PIECE: Final = 1 << 20
"""Bytes of a checkpoint per message; the arena's in zone is never smaller."""


@dataclass(frozen=True)
class EditSource:
    """Python text that defines an editing function. `name` is the hook's, for messages."""

    name: str
    source: str
    entry: str = "edit"
    arguments: int = 4


@dataclass(frozen=True)
class ModuleSpec:
    """A module of the job; `options` has the keys of the job document (inFeatures, source, ...)."""

    name: str
    kind: ModuleKind
    options: dict[str, Any] = field(default_factory=dict)
    trainable: bool = True


class SandboxJob:
    """Used by one thread; only `kill` may come from others."""

    def __init__(self, process: JobProcess, limits: SandboxLimits, on_close: Callable[[], None] = lambda: None) -> None:
        self.pid = process.pid
        self.edit_seconds = 0.0
        self.edit_calls = 0
        self._live_graphs = 0
        self._process = process
        self._limits = limits
        self._channel = Channel(process, limits)
        self._arena_bytes = limits.arena_bytes
        self._names: list[str] = []
        self._batch_known: object = UNKNOWN
        self.warnings: list[tuple[str, int, str]] = []
        """(hook, line of its source, what the sandbox will refuse), known after `init`."""
        self._on_close = on_close

    def ensure_capacity(self, tensor_bytes: int) -> None:
        """Before `init`: makes room for tensors of this size. Raises PB_LIMIT_EXCEEDED beyond `max_arena_bytes`."""
        top = max(self._limits.max_arena_bytes, self._limits.arena_bytes)
        size = Arena.size_for(tensor_bytes, self._arena_bytes, top)
        if self._channel.started and size > self._arena_bytes:
            raise error("PB_LIMIT_EXCEEDED", what="arena of a started job", limit=self._arena_bytes, actual=size)
        self._arena_bytes = size

    def init(self, *, seed: int, modules: Sequence[ModuleSpec] = (), sources: Sequence[EditSource] = ()) -> None:
        """Builds the modules in order under `seed` and reads the sources; the first edit begins with `seed` again."""
        if self._channel.started:
            raise RuntimeError("a sandbox job is initialised once")
        deadline = Deadline(self._limits.init_timeout_s)
        limits = {
            "arena_bytes": self._arena_bytes,
            "memory_bytes": self._limits.memory_bytes,
            "cpu_s": max(1, round(self._limits.job_timeout_s)),
            "log_bytes": self._limits.log_bytes,
            "seed": seed,
        }
        if self._process.cgroup is not None:
            self._process.cgroup.hold_memory(self._limits.memory_bytes + self._arena_bytes)
        self._channel.start(self._process.arena_of(self._arena_bytes), SET_UP, limits, deadline)
        for spec in modules:
            module = {"name": spec.name, "kind": spec.kind, "options": spec.options, "trainable": spec.trainable}
            self._channel.call(Kind.MODULE, spec.name, module, deadline)
        for source in sources:
            self._check_source(source)
            text = {
                "name": source.name,
                "source": source.source,
                "entry": source.entry,
                "arguments": source.arguments,
            }
            self._warn(source.name, self._channel.call(Kind.SOURCE, source.name, text, deadline))
            self._names.append(source.name)
        if not sources:  # each source ends with it
            self._channel.call(Kind.SEED, SET_UP, {}, deadline)

    def edit(
        self,
        *,
        source: int,
        tensor: Tensor,
        current_module: Mapping[str, Any],
        graph: int | None = None,
        timeout_s: float | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Runs source number `source` on the tensor; returns a private CPU copy of the same shape and dtype.

        With `graph`, a number of the caller's choice, the call can be differentiated by `backward`. `meanwhile` is done
        here while the job works.
        """
        module = dict(current_module)
        batch = module.pop("batch", None)
        facts: dict[str, Any] = {"source": source, "module": module}
        if batch is not self._batch_known:  # long, and the same for every hook of a pass
            facts["batch"] = encode_facts(batch).decode() if batch is not None else ""
        if graph is not None:
            self._count_graph()
            facts["graph"] = graph
        body = encode_facts(facts)
        self._batch_known = UNKNOWN  # a call that fails may or may not have come to the job
        result = self._exchange(Kind.EDIT, source, tensor, body, tuple(tensor.shape), timeout_s, meanwhile)
        self._batch_known = batch
        return result

    def rouse(self) -> None:
        """An edit will come in a moment."""
        self._channel.rouse()

    def loss(self, *, source: int, logits: Tensor, graph: int, timeout_s: float | None = None) -> Tensor:
        """Runs loss function number `source` on the logits; a scalar of their dtype, to be differentiated."""
        self._count_graph()
        return self._exchange(Kind.LOSS, source, logits, {"source": source, "graph": graph}, (), timeout_s)

    def backward(
        self, *, source: int, gradient: Tensor, graph: int, shape: tuple[int, ...], timeout_s: float | None = None
    ) -> Tensor:
        """Gradient of the input, of `shape`, of call `graph`. Parameters of `modules` collect theirs."""
        return self._exchange(Kind.BACKWARD, source, gradient, {"graph": graph}, shape, timeout_s)

    def release(self) -> None:
        """Forgets the graphs of all calls."""
        self._channel.call(Kind.RELEASE, SET_UP, {}, Deadline(self._limits.init_timeout_s))
        self._live_graphs = 0

    def begin_training(self, options: Mapping[str, Any]) -> None:
        """A new optimiser over the trainable parameters; `options` are torch's, with `kind`. After `restore` it goes on
        where the checkpoint was taken.
        """
        self._channel.call(Kind.OPTIMIZER, TRAINING, options, Deadline(self._limits.init_timeout_s))

    def step(self) -> None:
        """One step of the optimiser; graphs are forgotten."""
        self._channel.call(Kind.STEP, TRAINING, {}, Deadline(self._limits.edit_timeout_s))
        self._live_graphs = 0

    def checkpoint(self) -> tuple[dict[str, Tensor], list[str]]:
        """(all that the next training step depends on, by name; why that is not all, and so no checkpoint)."""
        body = {"max_tensors": 0, "max_bytes": self._limits.save_ctx_bytes}
        found = self._take_out(Kind.CHECKPOINT, TRAINING, body)
        return found.checkpoint, found.warnings

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Hands a checkpoint back; `begin_training` then starts from it."""
        deadline = Deadline(self._limits.init_timeout_s)
        for name, tensor in saved.items():
            flat = tensor.contiguous().reshape(-1).view(torch.uint8)
            body = {"name": name, "dtype": name_of(tensor.dtype), "shape": list(tensor.shape)}
            for at in range(0, max(1, len(flat)), RESTORE_PIECE):
                record = self._channel.arena.put(flat[at : at + RESTORE_PIECE])
                self._channel.call(Kind.RESTORE, TRAINING, {**body, "at": at}, deadline, record)

    def _exchange(
        self,
        kind: Kind,
        source: int,
        tensor: Tensor,
        body: bytes | Mapping[str, Any],
        shape: tuple[int, ...],
        timeout_s: float | None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """A tensor there, one of `shape` and the same dtype back."""
        limit = self._limits.edit_timeout_s
        deadline = Deadline(limit if timeout_s is None else min(limit, timeout_s))
        hook = self._names[source]
        self._count_edit()
        begun = time.monotonic()
        try:
            arena = self._channel.arena
            sent = arena.put(tensor)
            reply = self._channel.call(kind, hook, body, deadline, sent, meanwhile)
            got = self._channel.tensor_of(reply, hook)
            if got.shape != shape or got.dtype != sent.dtype:
                # An honest job has checked this itself and said so.
                self._channel.bad_reply(hook, WireError(f"{name_of(got.dtype)} {list(got.shape)} was not asked for"))
            try:
                return arena.take(got)
            except WireError as bad:
                self._channel.bad_reply(hook, bad)
        finally:
            self.edit_seconds += time.monotonic() - begun

    def collect(self, *, modules: bool = True) -> SandboxResult:
        """`save_ctx`, the modules' parameters and what was printed."""
        body = {
            "modules": modules,
            "max_tensors": self._limits.save_ctx_tensors,
            "max_bytes": self._limits.save_ctx_bytes,
            "max_json": self._limits.save_ctx_json_bytes,
        }
        return self._take_out(Kind.COLLECT, SAVE_CTX, body)

    def _take_out(self, kind: Kind, name: str, body: Mapping[str, Any]) -> SandboxResult:
        """Asks for a manifest and then for every tensor that it names."""
        deadline = Deadline(self._limits.init_timeout_s)
        reply = self._channel.call(kind, name, body, deadline)

        def fetch(index: int, size: int) -> Tensor:
            whole = torch.empty(size, dtype=torch.uint8)
            at = 0
            while at < size:
                piece = self._channel.call(Kind.FETCH, name, {"index": index, "at": at}, deadline)
                record = self._channel.tensor_of(piece, name)
                if not 0 < record.nbytes <= size - at:
                    raise WireError("wrong number of bytes")
                self._channel.arena.take_into(record, whole, at)
                at += record.nbytes
            return whole

        try:
            return collect(reply.body.get("bytes"), fetch, self.logs(), self._limits)
        except WireError as problem:
            self._channel.bad_reply(name, problem)

    def logs(self) -> str:
        """What the job has printed so far; also after its end."""
        self._channel.drain_log()
        return plain_text(self._process.log_text(), self._limits.log_bytes)

    def kill(self, reason: str) -> None:
        """From any thread: ends the process; a pending call raises PB_JOB_CANCELLED with the reason."""
        self._channel.kill(reason)

    def ended(self, timeout_s: float = 2.0) -> bool:
        """Whether its process ends within this time."""
        return self._process.ended(timeout_s)

    def close(self) -> None:
        """Ends the process and frees its memory; safe to call twice."""
        self._channel.close()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()

    def __enter__(self) -> SandboxJob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _warn(self, hook: str, reply: Message) -> None:
        """Keeps what the job says of a source; user code may have had a hand in it by now."""
        listed = reply.body.get("warnings")
        try:
            for line, what in listed if isinstance(listed, list) else []:
                if type(line) is not int or not isinstance(what, str) or len(self.warnings) >= MAX_WARNINGS:
                    break
                self.warnings.append((hook, line, plain_text(what, WARNING_CHARS)))
        except (TypeError, ValueError):
            self._channel.bad_reply(hook, WireError("bad warnings"))

    def _check_source(self, source: EditSource) -> None:
        size = len(source.source.encode("utf-8", "surrogatepass"))
        if size > self._limits.source_bytes:
            what = f"source of hook {source.name}"
            raise error("PB_LIMIT_EXCEEDED", what=what, limit=self._limits.source_bytes, actual=size)

    def _count_edit(self) -> None:
        limit = self._limits.edit_calls
        if self.edit_calls >= limit:
            raise error("PB_LIMIT_EXCEEDED", what="edits in one job", limit=limit, actual=self.edit_calls + 1)
        self.edit_calls += 1

    def _count_graph(self) -> None:
        limit = self._limits.live_graphs
        if self._live_graphs >= limit:
            what = "edits whose gradients are kept at one time"
            raise error("PB_LIMIT_EXCEEDED", what=what, limit=limit, actual=self._live_graphs + 1)
        self._live_graphs += 1
