"""A pipeline stage that gradients can pass: transformers' own sends and receives without autograd.

A later stage's gradient goes back where its input came from. On every stage but the last, `backward` starts the pass
when the loss has been differentiated there. Not here: which layers a stage owns (transformers).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.distributed.pipeline_parallel import PipelineIdentityLayer, PipelineStage

from patchbay_worker.engine.world import World
from patchbay_worker.errors import error


def check_stages_add_nothing(model: Any, name: str, world: World) -> None:
    """transformers cuts `embed_tokens`, `layers` and `norm` by these names; whatever else a model does between its
    first and its last layer (gpt_neox: another name of the norm; others: a scale on the embeddings) every stage would
    do again, silently. So the first stage without its layers has to give back what it gets.
    """
    base = getattr(model, model.base_model_prefix)
    passive = True
    if world.stage == 0:
        layers = base.layers
        given = torch.linspace(-1, 1, 3 * model.config.hidden_size, dtype=model.dtype, device=world.device)
        given = given.view(1, 3, -1)
        try:
            base.layers = nn.ModuleList([PipelineIdentityLayer() for _ in layers])
            with torch.no_grad():
                passive = torch.equal(base(inputs_embeds=given, use_cache=False).last_hidden_state, given)
        finally:
            base.layers = layers
    if world.share_bytes(b"y" if passive else b"n") != b"y":
        reason = f"{model.config.model_type} computes something outside of its layers, which every stage would repeat"
        raise error("PB_NOT_SHARDABLE", module=name, reason=reason, hint="Deploy it with pp 1.")


class _Receive(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, stage: Stage, shape: tuple[int, ...], like: Tensor) -> Tensor:
        ctx.stage = stage
        received = PipelineStage.communicate(stage, "recv_forward", device=like.device, dtype=like.dtype, shape=shape)
        assert received is not None, "only a stage with one before it receives"
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        stage: Stage = ctx.stage
        dist.send(stage.on_wire(gradient), group_dst=stage.pp_prev_rank, group=stage.pp_group)
        return None, None, None, None


class _Send(torch.autograd.Function):
    """Gives a number that stands for what later stages make of the tensor."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, value: Tensor, stage: Stage) -> Tensor:
        ctx.stage = stage
        ctx.save_for_backward(value)
        PipelineStage.communicate(stage, "send_forward", device=value.device, dtype=value.dtype, tensor=value)
        return anchor.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _gradient: Tensor) -> Any:
        stage: Stage = ctx.stage
        (value,) = ctx.saved_tensors
        buffer = torch.empty_like(stage.on_wire(value))
        dist.recv(buffer, group_src=stage.pp_next_rank, group=stage.pp_group)
        return None, buffer.to(value.device), None


class JobStopped(Exception):
    """The ranks agreed to leave the forward pass; whoever runs the job knows why."""


_GO, _STOP = 0, 1


class Stage(PipelineStage):
    """Takes the place of the stage that transformers has put into a model. Activations are announced by a word, so that
    a stage that stopped leaves none of the later ones waiting.
    """

    def __init__(self, theirs: PipelineStage) -> None:
        vars(self).update(vars(theirs))
        self._sent: Tensor | None = None
        self._device = torch.device("cpu")

    def pass_on_stop(self) -> None:
        """On every rank of a stage that stopped: instead of its activations."""
        self._sent = None
        if not self.pp_is_last_stage:
            self._say(_STOP)

    def _say(self, word: int) -> None:
        dist.send(self._word(word), group_dst=self.pp_next_rank, group=self.pp_group)

    def _hear(self) -> int:
        word = self._word(_GO)
        dist.recv(word, group_src=self.pp_prev_rank, group=self.pp_group)
        return int(word)

    def _word(self, word: int) -> Tensor:
        return torch.tensor([word], dtype=torch.int64, device="cpu" if self.comm_on_cpu else self._device)

    def on_wire(self, value: Tensor) -> Tensor:
        return (value.cpu() if self.comm_on_cpu else value).contiguous()

    def communicate(
        self,
        operation: str,
        *,
        device: torch.device,
        dtype: torch.dtype,
        tensor: Tensor | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Tensor | None:
        """As transformers calls it, with a graph when gradients are on. Raises JobStopped when the stage before did."""
        self._device = device
        if operation == "send_forward":
            self._say(_GO)
        elif self._hear() == _STOP:
            raise JobStopped
        if not torch.is_grad_enabled():
            plain: Tensor | None = super().communicate(
                operation, device=device, dtype=dtype, tensor=tensor, shape=shape
            )
            return plain
        anchor = torch.zeros((), requires_grad=True)  # both ends of a way must take part in the backward pass
        if operation == "recv_forward":
            like = torch.empty(0, dtype=dtype, device=device)
            received: Tensor = _Receive.apply(anchor, self, shape, like)  # type: ignore[no-untyped-call]
            return received
        self._sent = _Send.apply(anchor, tensor, self)  # type: ignore[no-untyped-call]
        return None

    def broadcast_from_last(self, tensor: Tensor | None, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The last stage's logits on every stage; only there they have a graph."""
        known = tensor.detach() if tensor is not None else None
        told: Tensor = super().broadcast_from_last(known, dtype=dtype, device=device)
        return told if tensor is None else tensor

    def backward(self) -> None:
        """Waits for the gradient of what was sent and goes on with it; nothing to do on the last stage."""
        sent, self._sent = self._sent, None
        if sent is not None:
            torch.autograd.backward(sent)
