"""`modules`: builds the modules that a job's edits can call. Not here: training them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import torch
from torch import nn

from patchbay_worker.sandbox.job.user_code import Refusal, load_function

ACTIVATIONS: Final[dict[str, Callable[[], nn.Module]]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class JobModules(nn.ModuleDict):
    """`modules` of an edit: a `torch.nn.ModuleDict` that also takes names with dots or of its own methods.

    Modules are on the CPU, in float32 (convert `inputs` in a deployment of another dtype), drawn from the job's `seed`.
    They live as long as the job; at its end their state goes into `modules.safetensors` as `<name>.<parameter>`.

    Raises:
        KeyError: the document has no module of this name.
    """

    def __setitem__(self, name: str, module: nn.Module) -> None:
        self._modules[name] = module


class Build(Protocol):
    """The function of a module of kind `python`, `def build()`: called once, before the first run.

    Returns:
        A `torch.nn.Module` on the CPU. Its parameters are trainable unless the document says `trainable: false`.

    Raises:
        PB_EDIT_RETURNED_NONE: the result is no `torch.nn.Module`.
        PB_EDIT_FAILED: any exception of the function.
        PB_EDIT_TIMEOUT: all modules together took longer than `limits.initTimeoutMs`.
    """

    def __call__(self) -> nn.Module: ...


def build_module(name: str, kind: str, options: dict[str, Any], trainable: bool) -> nn.Module:
    """One module of the document, with torch's own initial values, in float32, drawn from the RNG as it stands.

    Args:
        name: its key in `modules` of the document.
        kind: `linear`; `lowRank`, two linear maps without bias; `mlp`, two with an activation between; or `python`.
        options: the document's keys. `linear`: `inFeatures`, `outFeatures`, `bias` (true). `lowRank`: `inFeatures`,
            `outFeatures`, `rank`. `mlp`: `inFeatures`, `hiddenFeatures`, `outFeatures`, `activation` (`gelu`; or
            `relu`, `silu`, `tanh`). `python`: `source`.
        trainable: whether gradients of losses reach its parameters, and runs of mode `train` change them.

    Returns:
        The module: `[.., inFeatures] -> [.., outFeatures]`, unless it is `python`.

    Raises:
        Refusal: `build()` of a `python` module is wrong; the job fails with a `PB_EDIT_` code.
    """
    module = _build(name, kind, options)
    if not isinstance(module, nn.Module):
        raise Refusal("returned", type=f"{type(module).__qualname__} (build() must return a torch.nn.Module)")
    return module.requires_grad_(trainable)


def _build(name: str, kind: str, options: dict[str, Any]) -> Any:
    if kind == "linear":
        return nn.Linear(options["inFeatures"], options["outFeatures"], bias=options.get("bias", True))
    if kind == "lowRank":
        return nn.Sequential(
            nn.Linear(options["inFeatures"], options["rank"], bias=options.get("bias", False)),
            nn.Linear(options["rank"], options["outFeatures"], bias=options.get("bias", False)),
        )
    if kind == "mlp":
        return nn.Sequential(
            nn.Linear(options["inFeatures"], options["hiddenFeatures"]),
            ACTIVATIONS[options.get("activation", "gelu")](),
            nn.Linear(options["hiddenFeatures"], options["outFeatures"]),
        )
    if kind == "python":
        build = load_function(f"module {name}", options["source"], "build", 0)
        with torch.enable_grad():  # parameters made by hand take requires_grad from the mode
            return build()
    raise ValueError(f"unknown kind of module: {kind}")
