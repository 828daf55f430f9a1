"""One architecture on one mesh: every site of the first layer and outside of the layers, by every hook type, against
the unsharded model. A site either gives the numbers of plain torch or is refused with a reason; anything else raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError
from support.checkpoints import make_checkpoint
from support.gang import Gang, Outcome
from support.plain_gradients import plain_gradients
from support.plain_hooks import plain_logits, plain_model, plain_reads

ROWS: Final = [[5, 9, 31, 4, 17], [7, 3, 100, 64, 8]]
TOLERANCE: Final = 2e-5
EFFECT: Final = 1e-3
EDIT: Final = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs.flip(-1) * 0.5 + 0.3\n"
LOSS: Final = {"kind": "logitDiff", "target": 11, "foil": 90}
BACKWARD: Final = {"name": "r", "mode": "backward", "inputs": {"tokenIds": ROWS}, "loss": LOSS}
OTHER_LAYERS: Final = re.compile(r"layers?\.[1-9]|\bh\.[1-9]")


@dataclass
class Findings:
    """Counts of what equals plain torch, by hook type, and the reasons of what is refused."""

    passed: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # "<hook type> <name>" -> reason
    sharded: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # an edit is equal to plain torch's, and neither has an effect

    def count(self, kind: str) -> None:
        self.passed[kind] = self.passed.get(kind, 0) + 1


def edit(value: Tensor) -> Tensor:
    return value.flip(-1) * 0.5 + 0.3


def logit_diff(logits: Tensor) -> Tensor:
    return (logits[:, -1, 11] - logits[:, -1, 90]).sum()


def compare(got: Tensor, want: Tensor, what: str) -> None:
    assert got.ndim == want.ndim, f"{what}: {list(got.shape)} for {list(want.shape)}"
    # The engine gives every row its position ids; left alone, a model makes one row for all.
    difference = float((got - want.expand_as(got)).abs().max()) if got.numel() else 0.0
    scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
    assert difference <= TOLERANCE * scale, f"{what}: differs by {difference} of {scale}"


def examine(gang: Gang, family: str, folder: Path) -> Findings:
    """Makes the checkpoint and looks at all of it. Raises PatchbayError where the mesh is refused as a whole."""
    path = make_checkpoint(folder / family.replace(" ", "_"), family)
    findings = Findings()
    sites = [site for site in gang.load(path)["sites"] if site["leaf"] == 0 and not OTHER_LAYERS.search(site["module"])]
    served = []
    for site in sites:
        if site["layout"] in ("replicated", "sharded"):
            served.append(site)
        else:
            findings.refused[f"{site['hookType']} {site['module']}"] = site["reason"]
        if site["layout"] == "sharded":
            findings.sharded.append(f"{site['hookType']} {site['module']} {site['shape']}, dim {site['shardDim']}")
    _reads(gang, path, served, findings)
    _edits(gang, path, served, findings)
    _gradients(gang, path, served, findings)
    _parameters(gang, path, findings)
    return findings


def _hook(name: str, kind: str, number: int, **more: Any) -> dict[str, Any]:
    return {"name": f"h{number}", "moduleName": name, "hookType": kind, **more}


def _reads(gang: Gang, path: Path, sites: list[dict[str, Any]], findings: Findings) -> None:
    for kind in ("forward", "forward_pre"):
        names = [site["module"] for site in sites if site["hookType"] == kind]
        run = {"name": "r", "inputs": {"tokenIds": ROWS}}
        outcome, left = _without_refused(gang, kind, names, findings, {"runs": [run]})
        plain = plain_reads(path, ROWS, names, kind)
        for name in left:
            compare(outcome.captured(f"r/h{names.index(name)}/{name}/0"), plain[name], f"read {kind} {name}")


def _edits(gang: Gang, path: Path, sites: list[dict[str, Any]], findings: Findings) -> None:
    unedited = plain_logits(path, ROWS)
    for site in sites:
        kind, name = site["hookType"], site["module"]
        if f"{kind} {name}" in findings.refused:
            continue
        if not site["dtype"].startswith("float"):
            findings.count(kind)  # read only: flipping ids or masks has no meaning of its own
            continue
        hook = _hook(name, kind, 0, edit={"kind": "python", "source": EDIT}, save="none")
        run = {"name": "r", "inputs": {"tokenIds": ROWS}, "return": {"logits": "all"}}
        outcome = gang.run({"hooks": [hook], "runs": [run]})
        want = plain_logits(path, ROWS, (name, kind, edit))
        compare(outcome.tensor("r/logits"), want, f"edit {kind} {name}")
        findings.count(kind)
        if (want - unedited).abs().max() <= EFFECT:
            findings.unused.append(f"{kind} {name}")
    assert len(findings.unused) < len(sites) / 4, f"edits without effect prove nothing: {findings.unused}"


def _gradients(gang: Gang, path: Path, sites: list[dict[str, Any]], findings: Findings) -> None:
    of_output = [site["module"] for site in sites if site["hookType"] == "forward"]
    of_input = [site["module"] for site in sites if site["hookType"] == "forward_pre"]
    want = plain_gradients(path, ROWS, logit_diff, watched=[*of_output, *(n for n in of_input if n not in of_output)])
    for kind, names, plain in (
        ("full_backward_pre", of_output, want.of_output),
        ("full_backward", of_input, want.of_input),
    ):
        chosen = [name for name in names if name in plain]
        outcome, left = _without_refused(gang, kind, chosen, findings, {"runs": [BACKWARD]})
        captures = {each["module"]: each for each in outcome.result["activations"]}
        for name in left:
            compare(outcome.tensor(captures[name]["tensor"], "gradients.safetensors"), plain[name], f"{kind} {name}")
            findings.count(kind)
        assert max((float(plain[name].abs().max()) for name in left), default=1.0) > EFFECT


def _without_refused(
    gang: Gang, kind: str, names: list[str], findings: Findings, document: dict[str, Any]
) -> tuple[Outcome, list[str]]:
    """Some refusals are only met during the pass, and end the job: one at a time is taken out."""
    left = list(names)
    while True:
        hooks = [_hook(name, kind, names.index(name)) for name in left]
        try:
            return gang.run({"hooks": hooks, **document}), left
        except PatchbayError as problem:
            if problem.code != "PB_NOT_SHARDABLE":
                raise
            name = next(name for name in left if problem.message.startswith(f"{name}: "))
            findings.refused[f"{kind} {name}"] = problem.message.removeprefix(f"{name}: ")
            left.remove(name)


def _parameters(gang: Gang, path: Path, findings: Findings) -> None:
    """Weights are equal bit by bit, their gradients within the tolerance."""
    names = [name for name, _ in plain_model(path).named_parameters() if not OTHER_LAYERS.search(name)]
    outcome, left = _without_refused(
        gang, "tensor", names, findings, {"runs": [BACKWARD], "return": {"parameters": names}}
    )
    want = plain_gradients(path, ROWS, logit_diff, parameters=names).of_parameter
    for number, name in enumerate(names):
        stored = plain_model(path).get_parameter(name)
        assert torch.equal(outcome.tensor(name, "parameters.safetensors"), stored), name
        if name not in left:
            continue
        compare(outcome.tensor(f"r/h{number}/{name}/0", "gradients.safetensors"), want[name], f"tensor {name}")
        findings.count("tensor")


def summary(findings: Findings) -> Iterator[str]:
    for kind in ("forward", "forward_pre", "full_backward_pre", "full_backward", "tensor"):
        refused = sum(key.startswith(f"{kind} ") for key in findings.refused)
        yield f"{findings.passed.get(kind, 0)}" + (f" (-{refused})" if refused else "")
