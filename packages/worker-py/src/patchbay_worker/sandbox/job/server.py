"""The life of a job process: set-up, START, then one request after another until the socket ends.

It keeps a job's `modules`, `save_ctx` and functions. Not here: what user code is shown (edit.py), the
lock-down (lockdown/).
"""

from __future__ import annotations

import os
import random
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import numpy
import torch
from torch import Tensor

from patchbay_worker.sandbox.job.arena import JobArena
from patchbay_worker.sandbox.job.edit import current_module, run_edit, run_loss
from patchbay_worker.sandbox.job.export import Exporter, manifest_tensors
from patchbay_worker.sandbox.job.graphs import Graphs
from patchbay_worker.sandbox.job.lint import lint
from patchbay_worker.sandbox.job.log import flush_output, redirect_output, tell_where
from patchbay_worker.sandbox.job.modules import JobModules, build_module
from patchbay_worker.sandbox.job.save_ctx import Keeper, SaveContext, Unkeepable, put_back
from patchbay_worker.sandbox.job.training import Training
from patchbay_worker.sandbox.job.user_code import load_function, report
from patchbay_worker.sandbox.lockdown.job_part import SOCKET_FD, JobLockDown
from patchbay_worker.sandbox.wire.dtypes import BY_NAME
from patchbay_worker.sandbox.wire.layout import IN_OFFSET, arena_bytes_for
from patchbay_worker.sandbox.wire.message import (
    BODY_IN_ARENA,
    HELLO,
    MAX_MESSAGE,
    ROUSE,
    Kind,
    Message,
    TensorRecord,
    WireError,
    decode,
    decode_body,
    encode,
    encode_body,
    encode_facts,
)
from patchbay_worker.spin import soon

LOG_FD: Final = 1
SPIN_S: Final = 50e-6
ROUSED_S: Final = 2e-3
"""For the ranks to bring a tensor together."""
READY_HEAP_BYTES: Final = 2 << 20
"""What malloc keeps for the first results of an edit: 1 MB in fresh pages costs 0.7 ms, in these nothing."""

Reply = tuple[Kind, tuple[TensorRecord, ...], dict[str, Any]]
DONE: Final[Reply] = (Kind.OK, (), {})


def run_job(lock: JobLockDown) -> None:
    """Never returns to the zygote's code."""
    again = rehearse()
    lock.enter(os.getppid())
    os.write(SOCKET_FD, HELLO)
    server = _start(lock)
    data, awake_s = _next(again, SPIN_S)
    while data:
        os.write(SOCKET_FD, server.answer(data))
        data, awake_s = _next(again, awake_s)
    os._exit(0)


def _next(again: Callable[[], object], awake_s: float) -> tuple[bytes, float]:
    """The next request, empty at the end, and how long to wait awake for the one behind it. Of several in a row each
    comes right after the reply to the one before; but who rouses a job does so every time, and then has a layer of the
    model to compute, for which another rank may need this core.
    """
    limit, after = awake_s, SPIN_S
    while True:
        data = soon(lambda: os.read(SOCKET_FD, MAX_MESSAGE), limit)
        if data is None:
            select.select([SOCKET_FD], [], [])
            limit = SPIN_S
        elif data == ROUSE:
            with suppress(Exception):  # user code may have changed what it is made of
                again()
            limit, after = ROUSED_S, 0.0
        else:
            return data, after


def rehearse() -> Callable[[], object]:
    """Serves a job of our own. In a job: the pages this writes are copied while the process still waits in the pool.
    In the zygote: libraries look at /proc/cpuinfo while it is there. What it gives back runs through an edit once more:
    after other things on this core the way to the function takes 0.2 ms and more, right after another edit 0.06 ms.
    """
    size = arena_bytes_for(4096)
    fd = os.memfd_create("patchbay-rehearsal")
    os.ftruncate(fd, size)
    server = JobServer(JobArena(fd, size), size, seed=0)
    source = {"name": "rehearsal", "source": "def edit(a, b, c, d):\n    return b * 2", "entry": "edit", "arguments": 4}
    record = TensorRecord(torch.float32, (16, 16), IN_OFFSET)
    server.answer(encode(Kind.SOURCE, 0, (), source))
    edit = encode(Kind.EDIT, 0, (record,), encode_facts({"source": 0, "module": {"shape": []}, "batch": "{}"}))
    server.answer(edit)
    os.close(fd)
    torch.ones(READY_HEAP_BYTES, dtype=torch.uint8)
    return partial(server.answer, edit)


def _start(lock: JobLockDown) -> JobServer:
    """Waits for START, the only packet that carries a descriptor."""
    select.select([SOCKET_FD], [], [])
    with socket.socket(fileno=os.dup(SOCKET_FD)) as control:
        data, fds, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
    if not data:
        os._exit(0)
    request = decode(data, 0)
    body = request.body
    arena = JobArena(fds[0], body["arena_bytes"])
    redirect_output(LOG_FD, body["log_bytes"])
    tell_where(LOG_FD)
    lock.finish(body["memory_bytes"], body["cpu_s"])
    os.write(SOCKET_FD, encode(Kind.OK, request.nonce))
    return JobServer(arena, body["arena_bytes"], body["seed"])


class JobServer:
    def __init__(self, arena: JobArena, arena_bytes: int, seed: int) -> None:
        self._arena = arena
        self._arena_bytes = arena_bytes
        self._seed = seed
        self._modules = JobModules()
        self._save_ctx = SaveContext()
        self._functions: list[Callable[..., Any]] = []
        self._batch = ""
        self._exports: list[Tensor] = []
        self._graphs = Graphs()
        self._training = Training(self._modules)
        self._restored: dict[str, Tensor] = {}
        self._seed_all()
        self._handlers: dict[Kind, Callable[[Message], Reply]] = {
            Kind.SEED: self._seed_again,
            Kind.MODULE: self._module,
            Kind.SOURCE: self._source,
            Kind.EDIT: self._edit,
            Kind.COLLECT: self._collect,
            Kind.FETCH: self._fetch,
            Kind.BACKWARD: self._backward,
            Kind.RELEASE: self._release,
            Kind.LOSS: self._loss,
            Kind.OPTIMIZER: self._optimizer,
            Kind.STEP: self._step,
            Kind.CHECKPOINT: self._checkpoint,
            Kind.RESTORE: self._restore,
        }

    def answer(self, data: bytes) -> bytes:
        request = decode(data, self._arena_bytes, of_worker=True)
        if request.flags & BODY_IN_ARENA:
            *records, last = request.records
            body = decode_body(self._arena.read_bytes(last))
            request = request._replace(records=tuple(records), body=body)
        try:
            kind, records_out, reply = self._handlers[request.kind](request)
        except WireError:
            raise  # our own fault, not the user's: end the process
        except BaseException as problem:  # user code may raise SystemExit as well
            kind, records_out, reply = Kind.ERROR, (), report(problem)
        flush_output()
        return encode(kind, request.nonce, records_out, reply)

    def _seed_all(self) -> None:
        torch.default_generator.manual_seed(self._seed)  # not torch.manual_seed: it asks for each kind of device
        numpy.random.seed(self._seed % 2**32)
        random.seed(self._seed)

    def _seed_again(self, _: Message) -> Reply:
        self._seed_all()
        return DONE

    def _module(self, request: Message) -> Reply:
        body = request.body
        self._modules[body["name"]] = build_module(body["name"], body["kind"], body["options"], body["trainable"])
        return DONE

    def _source(self, request: Message) -> Reply:
        body = request.body
        warnings = lint(body["source"])
        self._functions.append(load_function(f"hook {body['name']}", body["source"], body["entry"], body["arguments"]))
        self._seed_all()
        return Kind.OK, (), {"warnings": warnings}

    def _edit(self, request: Message) -> Reply:
        result = self._edit_once(request)
        record = self._arena.place(result)
        del result  # it may be the input
        self._arena.settle()
        return Kind.TENSOR, (record,), {}

    def _edit_once(self, request: Message) -> Tensor:
        """In a frame of its own: when it is gone, only user code can still hold the input."""
        self._batch = request.body.get("batch", self._batch)
        inputs = self._arena.input(request.records[0])
        function = self._functions[request.body["source"]]
        module = current_module(request.body["module"], self._batch)
        graph = request.body.get("graph")
        if graph is None:
            return run_edit(function, module, inputs, self._save_ctx, self._modules, gradient=False)
        entered = self._graphs.enter(graph, inputs)
        result = run_edit(function, module, entered, self._save_ctx, self._modules, gradient=True)
        self._graphs.keep(graph, result)
        return result.detach()

    def _loss(self, request: Message) -> Reply:
        logits = self._graphs.enter(request.body["graph"], self._arena.input(request.records[0]))
        value = run_loss(self._functions[request.body["source"]], logits, self._save_ctx, self._modules)
        self._graphs.keep(request.body["graph"], value)
        return Kind.TENSOR, (self._arena.place(value.detach()),), {}

    def _backward(self, request: Message) -> Reply:
        gradient = self._arena.input(request.records[0]).clone()
        result = self._graphs.backward(request.body["graph"], gradient)
        return Kind.TENSOR, (self._arena.place(result.detach()),), {}

    def _release(self, _: Message) -> Reply:
        self._graphs.release()
        return DONE

    def _optimizer(self, request: Message) -> Reply:
        saved, self._restored = self._restored, {}
        self._training.begin(request.body, saved)
        if saved:
            put_back(self._save_ctx, saved)
        return DONE

    def _restore(self, request: Message) -> Reply:
        """A piece of a checkpoint, as flat bytes; OPTIMIZER then begins from it."""
        body = request.body
        if body["at"] == 0:
            whole = torch.empty(body["shape"], dtype=BY_NAME[body["dtype"]])
            self._restored[body["name"]] = whole
        flat = self._restored[body["name"]].reshape(-1).view(torch.uint8)
        piece = self._arena.input(request.records[0])
        flat[body["at"] : body["at"] + len(piece)] = piece
        return DONE

    def _checkpoint(self, request: Message) -> Reply:
        exporter = Exporter(request.body["max_tensors"], request.body["max_bytes"])
        try:
            context = Keeper(self._save_ctx, self._modules.state_dict(keep_vars=True)).tensors
        except Unkeepable as reason:
            exporter.warnings.append(str(reason))
        else:
            exporter.checkpoint({**self._training.checkpoint(), **context})
        return self._export(exporter, {})

    def _step(self, _: Message) -> Reply:
        self._graphs.release()
        self._training.step()
        return DONE

    def _collect(self, request: Message) -> Reply:
        body = request.body
        exporter = Exporter(body["max_tensors"], body["max_bytes"])
        values = exporter.save_ctx(self._save_ctx)
        if body["modules"]:
            exporter.modules(self._modules)
        return self._export(exporter, values, body["max_json"])

    def _export(self, exporter: Exporter, values: dict[str, Any], max_json: int = 0) -> Reply:
        """Keeps what the manifest names for FETCH; the manifest itself is export 0."""
        manifest = {"tensors": list(manifest_tensors(exporter)), "warnings": exporter.warnings, "values": values}
        raw = encode_body(manifest)
        if values and len(raw) > max_json:
            manifest["values"] = {}
            manifest["warnings"] = [f"the plain values of save_ctx are over {max_json} bytes and left out"]
            raw = encode_body(manifest)
        self._exports = [torch.frombuffer(bytearray(raw), dtype=torch.uint8)]
        self._exports += [tensor for _, _, tensor in exporter.tensors]
        return Kind.OK, (), {"bytes": len(raw)}

    def _fetch(self, request: Message) -> Reply:
        index, at = request.body["index"], request.body["at"]
        if at == 0:  # keep the flat form: the next pieces come from it
            whole = self._exports[index].resolve_conj().resolve_neg().contiguous()
            self._exports[index] = whole.reshape(-1).view(torch.uint8)
        piece = self._exports[index][at : at + self._arena.zone]
        return Kind.TENSOR, (self._arena.place(piece),), {}
