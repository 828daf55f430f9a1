"""One sandbox for all stages: the edit roots of later stages reach the home rank's over TCP, on a thread of its own,
since the home rank's job thread waits inside of the model while a later stage runs.

`save_ctx`, `modules` and the optimiser are one per job that way. Every connection shows the gang's token first.
Not here: what an edit is (sandbox/), when it runs (hooks/).
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import safetensors.torch
from torch import Tensor

from patchbay_worker.engine.links.meeting import Meeting, join
from patchbay_worker.engine.world import World
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.frames import Frame, FrameSocket
from patchbay_worker.hooks.editor import Editor
from patchbay_worker.sandbox.client import SandboxJob


class EditLinks:
    """Made by every rank together; `editor` then gives each rank what its hooks need."""

    def __init__(self, world: World, host: str) -> None:
        self._world = world
        self._service: _Service | None = None
        self._home: RemoteSandbox | None = None
        if world.mesh.pp == 1:
            return
        if world.is_root:
            self._service = _Service(host)
        invitation = world.share_bytes(self._service.meeting.invitation() if self._service is not None else None)
        if world.edit.is_root and not world.is_root:
            self._home = RemoteSandbox(join(invitation))
        if self._service is not None:
            self._service.accept(world.mesh.pp - 1)

    def editor(self, sandbox: SandboxJob | None, deadline_s: float | None) -> Editor:
        """For one job. `sandbox` is there on the home rank only."""
        if self._home is not None:
            return Editor(self._home, deadline_s, stage=self._world.stage, on_poison=self._home.poison)
        editor = Editor(sandbox, deadline_s)
        if self._service is not None:
            self._service.editor = editor
        return editor

    def close(self) -> None:
        for each in (self._service, self._home):
            if each is not None:
                each.close()


class _Service:
    """The home rank's end: one thread per later stage."""

    def __init__(self, host: str) -> None:
        self.editor: Editor | None = None
        self.meeting = Meeting(host)
        self._connections: list[socket.socket] = []

    def accept(self, count: int) -> None:
        self._connections = self.meeting.admit(count)
        for each in self._connections:
            threading.Thread(target=self._serve, args=(FrameSocket(each),), name="edit-service", daemon=True).start()

    def _serve(self, link: FrameSocket) -> None:
        try:
            while (frame := link.receive()) is not None:
                link.send(self._answer(frame))
        except OSError:
            return  # the gang ends; its supervisor hears of that by itself

    def _answer(self, frame: Frame) -> Frame:
        editor = self.editor
        if editor is None:
            return _failure(error("PB_INTERNAL", reason="an edit of a stage outside of any job"))
        try:
            if frame.type == "poison":
                editor.poison(PatchbayError.from_json(json.loads(frame.body)))
                return Frame("done")
            tensor, fields = _tensor(frame.body), frame.fields
            if frame.type == "edit":
                result = editor.ask(lambda sandbox, left: sandbox.edit(tensor=tensor, timeout_s=left, **fields))
            else:
                shape = tuple(fields.pop("shape"))
                result = editor.ask(
                    lambda sandbox, left: sandbox.backward(gradient=tensor, shape=shape, timeout_s=left, **fields)
                )
        except PatchbayError as problem:
            return _failure(problem)
        return Frame("done", body=_bytes(result))

    def close(self) -> None:
        for each in self._connections:
            each.close()


class RemoteSandbox:
    """The sandbox as an edit root of a later stage sees it. The home rank keeps the deadlines."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        self._socket = connection
        self._link = FrameSocket(connection)

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
        fields = {"source": source, "current_module": dict(current_module), "graph": graph}
        return _tensor(self._ask(Frame("edit", fields, _bytes(tensor)), meanwhile))

    def rouse(self) -> None:
        """Not worth a message between stages."""

    def backward(
        self, *, source: int, gradient: Tensor, graph: int, shape: tuple[int, ...], timeout_s: float | None = None
    ) -> Tensor:
        fields = {"source": source, "graph": graph, "shape": list(shape)}
        return _tensor(self._ask(Frame("backward", fields, _bytes(gradient))))

    def poison(self, reason: PatchbayError) -> None:
        """Tells the home rank, which decides for all where the job ends."""
        self._ask(Frame("poison", body=json.dumps(reason.to_json()).encode()))

    def close(self) -> None:
        self._socket.close()

    def _ask(self, frame: Frame, meanwhile: Callable[[], None] = lambda: None) -> bytes:
        self._link.send(frame)
        try:
            meanwhile()
        finally:  # the next question must not find this one's answer
            answer = self._link.receive()
        if answer is None:
            raise error("PB_SANDBOX_FAILED", reason="the home rank has closed the connection")
        if answer.type == "failed":
            raise PatchbayError.from_json(json.loads(answer.body))
        return answer.body


def _failure(problem: PatchbayError) -> Frame:
    return Frame("failed", body=json.dumps(problem.to_json()).encode())


def _bytes(tensor: Tensor) -> bytes:
    return safetensors.torch.save({"value": tensor.detach().cpu().contiguous()})


def _tensor(data: bytes) -> Tensor:
    return safetensors.torch.load(data)["value"]
