"""Trains the `modules` of a job: one optimiser over every trainable parameter. Not here: the loss, the model.

A checkpoint is all that the next step depends on, as named tensors, so that nothing has to be unpickled: parameters,
the optimiser's state, the random generators, and `save_ctx` (save_ctx.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy
import torch
from torch import Tensor, nn

from patchbay_worker.sandbox.job.user_code import Refusal

MODULE, STATE, RNG = "module.", "optimizer.", "rng."
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
            _put_back(saved, self._modules, self._optimizer)

    def checkpoint(self) -> dict[str, Tensor]:
        """All that the next step depends on."""
        assert self._optimizer is not None, "the worker begins before it asks"
        return _take(self._modules, self._optimizer)

    def step(self) -> None:
        """One step with what the backward passes since the last one have collected."""
        assert self._optimizer is not None, "the worker begins before it steps"
        if all(parameter.grad is None for parameter in self._modules.parameters()):
            raise Refusal("nothing-to-train")  # no edit that the loss depends on has called a module
        self._optimizer.step()
        self._optimizer.zero_grad()


def _take(modules: nn.ModuleDict, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    named = {MODULE + name: value.detach() for name, value in modules.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        named |= {f"{STATE}{index}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    return {name: value.clone() for name, value in {**named, **_generators()}.items()}


def _put_back(saved: Mapping[str, Tensor], modules: nn.ModuleDict, optimizer: torch.optim.Optimizer) -> None:
    modules.load_state_dict(_below(MODULE, saved))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(STATE, saved).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    _set_generators(_below(RNG, saved))


def _below(prefix: str, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in saved.items() if name.startswith(prefix)}


def _generators() -> dict[str, Tensor]:
    legacy: Any = numpy.random.get_state(legacy=True)
    _, words, position, has_gauss, gauss = legacy
    _, numbers, python_gauss = random.getstate()
    return {
        RNG + "torch": torch.default_generator.get_state(),
        RNG + "numpy": torch.tensor([*words.tolist(), position, has_gauss]),
        RNG + "python": torch.tensor(numbers),
        RNG + "gauss": torch.tensor(
            [gauss, float("nan") if python_gauss is None else python_gauss], dtype=torch.float64
        ),
    }


def _set_generators(saved: Mapping[str, Tensor]) -> None:
    torch.default_generator.set_state(saved["torch"])
    *words, position, has_gauss = saved["numpy"].tolist()
    gauss, python_gauss = saved["gauss"].tolist()
    numpy.random.set_state(("MT19937", numpy.array(words, dtype=numpy.uint32), position, has_gauss, gauss))
    random.setstate((3, tuple(saved["python"].tolist()), None if python_gauss != python_gauss else python_gauss))
