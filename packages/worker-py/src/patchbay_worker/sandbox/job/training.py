"""Trains the `modules` of a job: one optimiser over every trainable parameter. Not here: the loss, the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from patchbay_worker.sandbox.job import checkpoint
from patchbay_worker.sandbox.job.user_code import Refusal

KINDS: Final[dict[str, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


class Training:
    """`begin` per training run: the optimiser's state starts anew, the modules go on from where they are."""

    def __init__(self, modules: nn.ModuleDict) -> None:
        self._modules = modules
        self._optimizer: torch.optim.Optimizer | None = None

    def begin(self, options: Mapping[str, Any], saved: Mapping[str, Tensor]) -> None:
        """`options` has `kind` and torch's own keywords; what is absent has torch's default. With `saved`, what
        `checkpoint` gave, it goes on from there.
        """
        parameters = [parameter for parameter in self._modules.parameters() if parameter.requires_grad]
        if not parameters:
            raise Refusal("nothing-to-train")
        keywords = {key: value for key, value in options.items() if key != "kind"}
        self._optimizer = KINDS[options["kind"]](parameters, **keywords)
        self._optimizer.zero_grad()
        if saved:
            checkpoint.put_back(saved, self._modules, self._optimizer)

    def checkpoint(self) -> dict[str, Tensor]:
        """All that the next step depends on."""
        assert self._optimizer is not None, "the worker begins before it asks"
        return checkpoint.take(self._modules, self._optimizer)

    def step(self) -> None:
        """One step with what the backward passes since the last one have collected."""
        assert self._optimizer is not None, "the worker begins before it steps"
        if all(parameter.grad is None for parameter in self._modules.parameters()):
            raise Refusal("nothing-to-train")  # no edit that the loss depends on has called a module
        self._optimizer.step()
        self._optimizer.zero_grad()
