"""`mode: backward` on every mesh against plain autograd on the unsharded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from patchbay_worker.errors import PatchbayError
from support.gang import Gang
from support.plain_gradients import plain_gradients

TOKENS = [[5, 9, 31, 4, 17], [7, 3, 100, 8, 50]]
SITES = [
    "model.layers.1",
    "model.layers.1.mlp",
    "model.layers.1.mlp.gate_proj",
    "model.layers.1.mlp.act_fn",
    "model.layers.2.mlp.down_proj",
    "model.layers.2.self_attn",  # called by keyword, gives a tuple
    "model.layers.2.self_attn.q_proj",
    "model.layers.2.self_attn.k_proj",
    "model.layers.2.self_attn.o_proj",
    "model.norm",
    "model",  # gives a ModelOutput
    "lm_head",
]
LOSS = {"kind": "logitDiff", "position": -1, "target": 11, "foil": 90}


def logit_diff(logits: Tensor) -> Tensor:
    return (logits[:, -1, 11] - logits[:, -1, 90]).sum()


def python(body: str) -> dict[str, str]:
    return {"kind": "python", "source": f"def edit(current_module, inputs, save_ctx, modules):\n{body}"}


def backward(*hooks: dict[str, Any], loss: dict[str, Any] | None = None, **run: Any) -> dict[str, Any]:
    entry = {"name": "r", "mode": "backward", "inputs": {"tokenIds": TOKENS}, "loss": loss or LOSS, **run}
    return {"hooks": list(hooks), "runs": [entry]}


def close(got: Tensor, want: Tensor) -> None:
    """The order of the sums of row-parallel maps differs: 2e-5 of the largest value, at least of 1."""
    torch.testing.assert_close(got, want, atol=2e-5 * max(1.0, float(want.abs().max())), rtol=0)


def bites(got: Tensor, other: Tensor) -> None:
    assert (got - other).abs().max() > 1e-3


def test_gradients_of_outputs_and_inputs(gang: Gang, llama: Path) -> None:
    hooks = [{"name": "out", "moduleName": name, "hookType": "full_backward_pre"} for name in SITES]
    hooks += [{"name": "in", "moduleName": name, "hookType": "full_backward"} for name in SITES]
    hooks = [{**hook, "name": f"{hook['name']}-{index}"} for index, hook in enumerate(hooks)]
    outcome = gang.run(backward(*hooks))
    want = plain_gradients(llama, TOKENS, logit_diff, watched=SITES)
    assert outcome.result["runs"]["r"]["loss"] == pytest.approx(want.loss, abs=2e-5)
    for index, name in enumerate(SITES):
        got = outcome.tensor(f"r/out-{index}/{name}/0", "gradients.safetensors")
        close(got, want.of_output[name])
        assert got.abs().max() > 1e-3
        if name != "model":  # which gets token ids
            close(outcome.tensor(f"r/in-{index + len(SITES)}/{name}/0", "gradients.safetensors"), want.of_input[name])
    labels = outcome.result["activations"][0]
    assert labels["file"] == "gradients.safetensors"
    assert labels["rows"][0] == {"row": 0, "position": 0, "tokenId": 5, "step": 0}


def test_gradients_of_parameters(gang: Gang, llama: Path) -> None:
    names = [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.self_attn.o_proj.weight",
        "model.layers.1.mlp.gate_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.1.input_layernorm.weight",
        "lm_head.weight",
    ]
    hooks = [{"name": f"h{i}", "moduleName": name, "hookType": "tensor"} for i, name in enumerate(names)]
    before = gang.state()
    outcome = gang.run(backward(*hooks))
    want = plain_gradients(llama, TOKENS, logit_diff, parameters=names)
    for index, name in enumerate(names):
        got = outcome.tensor(f"r/h{index}/{name}/0", "gradients.safetensors")
        close(got, want.of_parameter[name])
        assert got.abs().max() > 1e-3
    assert gang.state() == before, "no weight changed and no hook is left"


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("model.layers.1.mlp.gate_proj", "forward"),
        ("model.layers.1.mlp.down_proj", "forward_pre"),
        ("model.layers.1", "forward"),
        ("model.embed_tokens", "forward"),
    ],
)
def test_gradients_go_through_an_edit(gang: Gang, llama: Path, module: str, kind: str) -> None:
    def edit(x: Tensor) -> Tensor:
        return x.flip(-1).tanh() * 0.7 + x.cumsum(-1) * 0.05

    hooks: list[dict[str, Any]] = [
        {
            "name": "edit",
            "moduleName": module,
            "hookType": kind,
            "edit": python("    return inputs.flip(-1).tanh() * 0.7 + inputs.cumsum(-1) * 0.05"),
        },
        {"name": "up", "moduleName": "model.layers.0.mlp.up_proj", "hookType": "full_backward_pre"},
        {"name": "down", "moduleName": "model.layers.3", "hookType": "full_backward_pre"},
    ]
    outcome = gang.run(backward(*hooks, **{"return": {"logits": "all"}}))
    watched = ["model.layers.0.mlp.up_proj", "model.layers.3"]
    want = plain_gradients(llama, TOKENS, logit_diff, watched=watched, edits=[(module, kind, edit)])
    plain = plain_gradients(llama, TOKENS, logit_diff, watched=watched)
    close(outcome.tensor("r/logits"), want.logits)
    for name, hook in zip(watched, ("up", "down"), strict=True):
        got = outcome.tensor(f"r/{hook}/{name}/0", "gradients.safetensors")
        close(got, want.of_output[name])
        bites(want.of_output[name], plain.of_output[name])


@pytest.mark.parametrize("where", [{"positions": [2]}, {"positions": [2, -3], "rows": [0, 1, 0]}])
def test_an_edit_of_chosen_positions_leaves_the_others_gradient(gang: Gang, llama: Path, where: dict[str, Any]) -> None:
    """A token that is named twice has one gradient."""

    def edit(x: Tensor) -> Tensor:
        return torch.cat([x[:, :2], x[:, 2:3] * 3, x[:, 3:]], 1)

    module, watched = "model.layers.1.mlp.up_proj", "model.layers.0"
    hooks: list[dict[str, Any]] = [
        {"name": "e", "moduleName": module, "edit": python("    return inputs * 3"), "where": where},
        {"name": "g", "moduleName": watched, "hookType": "full_backward_pre", "where": {"positions": [1, -1]}},
    ]
    outcome = gang.run(backward(*hooks))
    want = plain_gradients(llama, TOKENS, logit_diff, watched=[watched], edits=[(module, "forward", edit)])
    close(outcome.tensor(f"r/g/{watched}/0", "gradients.safetensors"), want.of_output[watched][:, [1, -1]])
    assert [row["position"] for row in outcome.result["activations"][-1]["rows"]] == [1, 4, 1, 4]


def test_an_edit_of_a_gradient(gang: Gang, llama: Path) -> None:
    def halve(gradient: Tensor) -> Tensor:
        return gradient.flip(-1) * 0.5

    module, watched = "model.layers.2.mlp.gate_proj", "model.layers.0"
    hooks: list[dict[str, Any]] = [
        {
            "name": "e",
            "moduleName": module,
            "hookType": "full_backward_pre",
            "edit": python("    return inputs.flip(-1) * 0.5"),
            "save": "post",
        },
        {"name": "g", "moduleName": watched, "hookType": "full_backward_pre"},
    ]
    outcome = gang.run(backward(*hooks))
    want = plain_gradients(llama, TOKENS, logit_diff, watched=[watched], edits=[(module, "full_backward_pre", halve)])
    plain = plain_gradients(llama, TOKENS, logit_diff, watched=[watched, module])
    close(outcome.tensor(f"r/g/{watched}/0", "gradients.safetensors"), want.of_output[watched])
    close(outcome.tensor(f"r/e/{module}/0", "gradients.safetensors"), halve(plain.of_output[module]))
    bites(want.of_output[watched], plain.of_output[watched])
    assert outcome.report("e")["rowsTouched"] == 10


def test_an_edit_of_a_parameters_gradient(gang: Gang, llama: Path) -> None:
    name = "model.layers.1.mlp.gate_proj.weight"
    hook = {"name": "h", "moduleName": name, "hookType": "tensor", "edit": python("    return inputs * 2")}
    outcome = gang.run(backward({**hook, "save": "post"}))
    want = plain_gradients(llama, TOKENS, logit_diff, parameters=[name])
    close(outcome.tensor(f"r/h/{name}/0", "gradients.safetensors"), want.of_parameter[name] * 2)
    assert outcome.report("h")["relativeChange"] == pytest.approx(1.0)


def test_edits_that_save_ctx_connects(gang: Gang, llama: Path) -> None:
    first, second, watched = (
        "model.layers.0.mlp.gate_proj",
        "model.layers.2.mlp.gate_proj",
        "model.layers.0.input_layernorm",
    )
    hooks: list[dict[str, Any]] = [
        {"name": "a", "moduleName": first, "edit": python("    save_ctx.x = inputs\n    return inputs * 1.0")},
        {"name": "b", "moduleName": second, "edit": python("    return inputs + save_ctx.x * 2")},
        {"name": "g", "moduleName": watched, "hookType": "full_backward_pre"},
    ]
    outcome = gang.run(backward(*hooks))
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x * 1.0

    edits = [(first, "forward", keep), (second, "forward", lambda x: x + kept[0] * 2)]
    want = plain_gradients(llama, TOKENS, logit_diff, watched=[watched], edits=edits)
    plain = plain_gradients(llama, TOKENS, logit_diff, watched=[watched])
    close(outcome.tensor(f"r/g/{watched}/0", "gradients.safetensors"), want.of_output[watched])
    bites(want.of_output[watched], plain.of_output[watched])


LOSSES: list[tuple[dict[str, Any], Any]] = [
    (
        {"kind": "nextToken"},
        lambda x: functional.cross_entropy(x[:, :-1].flatten(0, 1), torch.tensor(TOKENS)[:, 1:].flatten()),
    ),
    ({"kind": "sumLogits"}, lambda x: x.sum()),
    ({"kind": "sumLogits", "position": 2}, lambda x: x[:, 2].sum()),
    ({"kind": "logitDiff", "target": "w11", "foil": "w90"}, logit_diff),
    (
        {
            "kind": "python",
            "source": "def loss(logits, save_ctx, modules):\n    return (logits[:, -1] ** 2).mean()",
        },
        lambda x: (x[:, -1] ** 2).mean(),
    ),
]


@pytest.mark.parametrize(("loss", "plain"), LOSSES)
def test_losses(gang: Gang, llama: Path, loss: dict[str, Any], plain: Any) -> None:
    watched = "model.layers.1"
    outcome = gang.run(backward({"name": "g", "moduleName": watched, "hookType": "full_backward_pre"}, loss=loss))
    want = plain_gradients(llama, TOKENS, plain, watched=[watched])
    assert outcome.result["runs"]["r"]["loss"] == pytest.approx(want.loss, rel=1e-5)
    got = outcome.tensor(f"r/g/{watched}/0", "gradients.safetensors")
    close(got, want.of_output[watched])
    assert got.abs().max() > 1e-4


def test_ragged_rows_have_the_gradients_that_they_have_alone(gang: Gang) -> None:
    rows = [[5, 9, 31, 4, 17], [7, 3]]
    hook = {"name": "g", "moduleName": "model.layers.1", "hookType": "full_backward_pre"}
    together = gang.run(backward(hook, inputs={"tokenIds": rows})).tensor(
        "r/g/model.layers.1/0", "gradients.safetensors"
    )
    for index, row in enumerate(rows):
        alone = gang.run(backward(hook, inputs={"tokenIds": [row]}))
        close(together[index, : len(row)], alone.tensor("r/g/model.layers.1/0", "gradients.safetensors")[0])
    assert not together[1, 2:].any(), "padding has none"


def test_hooks_of_gradients_stay_off_in_runs_without_gradients(pair: Gang) -> None:
    document = backward({"name": "g", "moduleName": "model.layers.1", "hookType": "full_backward_pre"})
    document["runs"].append({"name": "plain", "inputs": {"tokenIds": TOKENS}})
    outcome = pair.run(document)
    assert [entry["run"] for entry in outcome.result["activations"]] == ["r"]
    assert [entry["run"] for entry in outcome.result["hooks"]] == ["r"]


def test_a_gradient_that_never_came_says_so(pair: Gang) -> None:
    """The residual of the last layer is not reached by a loss of the constant that an edit puts in its place."""
    hooks: list[dict[str, Any]] = [
        {"name": "cut", "moduleName": "model.norm", "edit": python("    return torch.ones_like(inputs)")},
        {"name": "tokens", "moduleName": "model.embed_tokens", "hookType": "full_backward"},
        {"name": "g", "moduleName": "model.layers.3", "hookType": "full_backward_pre"},
    ]
    outcome = pair.run(backward(*hooks))
    by_hook = {entry["hook"]: entry for entry in outcome.result["activations"]}
    assert by_hook["tokens"]["missing"] == "no-tensor"
    assert not outcome.tensor("r/g/model.layers.3/0", "gradients.safetensors").any()


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    (backward(loss={"kind": "logitDiff", "target": 1, "foil": 1}), "PB_LOSS_INVALID", "runs[0].loss"),
    (backward(loss={"kind": "logitDiff", "target": 500, "foil": 1}), "PB_TOKEN_OUT_OF_RANGE", "runs[0].loss.target"),
    (backward(loss={"kind": "logitDiff", "target": "w3 w4", "foil": 1}), "PB_TOKEN_AMBIGUOUS", "runs[0].loss.target"),
    (backward(loss={"kind": "logitDiff", "target": 2, "foil": "nope"}), "PB_TOKEN_AMBIGUOUS", "runs[0].loss.foil"),
    (backward(loss={"kind": "sumLogits", "position": 9}), "PB_LOSS_INVALID", "runs[0].loss.position"),
    (backward(loss={"kind": "nextToken"}, inputs={"tokenIds": [[3]]}), "PB_LOSS_INVALID", "runs[0].loss"),
    (
        {
            "hooks": [{"name": "g", "moduleName": "model.norm", "hookType": "full_backward"}],
            "runs": [{"inputs": {"tokenIds": TOKENS}}],
        },
        "PB_GRADIENT_NEEDS_BACKWARD",
        "hooks[0].hookType",
    ),
    (
        {
            **backward({"name": "g", "moduleName": "model.norm", "hookType": "full_backward"}),
            "runs": [{"inputs": {"tokenIds": TOKENS}, "hooks": {"names": ["g"]}}],
        },
        "PB_GRADIENT_NEEDS_BACKWARD",
        "runs[0].hooks.names[0]",
    ),
    (
        backward({"name": "g", "moduleName": "model.norm.wait", "hookType": "tensor"}),
        "PB_PARAMETER_NOT_FOUND",
        "hooks[0].moduleName",
    ),
    (
        backward({"name": "g", "moduleName": "model.norm.weight", "hookType": "tensor", "where": {"positions": [0]}}),
        "PB_WHERE_UNSUPPORTED",
        "hooks[0].where",
    ),
    (
        backward({"name": "g", "moduleName": "model.norm.weight", "hookType": "tensor", "expectedShape": [9]}),
        "PB_SHAPE_MISMATCH",
        "hooks[0].expectedShape",
    ),
]


@pytest.mark.parametrize(("document", "code", "path"), REFUSALS)
def test_refusals(pair: Gang, document: dict[str, Any], code: str, path: str) -> None:
    with pytest.raises(PatchbayError) as caught:
        pair.run(document)
    assert (caught.value.code, caught.value.path) == (code, path)


@pytest.mark.parametrize("body", ["logits.detach().sum()", "torch.tensor(1.0)", "logits.argmax(-1).float().mean()"])
def test_a_loss_without_a_gradient_is_refused(pair: Gang, body: str) -> None:
    """Its gradients would all be zero, as if the model had no influence."""
    source = f"def loss(logits, save_ctx, modules):\n    return {body}"
    with pytest.raises(PatchbayError, match="depends on nothing that gradients flow through") as caught:
        pair.run(backward(loss={"kind": "python", "source": source}))
    assert caught.value.code == "PB_EDIT_FAILED"


FAULTS = [
    (python("    return inputs.detach() if False else 1 / 0"), "PB_EDIT_FAILED"),
    (
        python(
            "    class F(torch.autograd.Function):\n"
            "        @staticmethod\n"
            "        def forward(ctx, x): return x * 2\n"
            "        @staticmethod\n"
            "        def backward(ctx, g): raise ValueError('in backward')\n"
            "    return F.apply(inputs)"
        ),
        "PB_EDIT_FAILED",
    ),
    (
        python("    inputs.register_hook(lambda g: __import__('os')._exit(3))\n    return inputs * 1.0"),
        "PB_EDIT_CRASHED",
    ),
]


@pytest.mark.parametrize(("edit", "code"), FAULTS)
def test_a_failing_edit_ends_the_job_and_nothing_else(gang: Gang, edit: dict[str, str], code: str) -> None:
    before = gang.state()
    with pytest.raises(PatchbayError) as caught:
        gang.run(backward({"name": "e", "moduleName": "model.layers.1.mlp.gate_proj", "edit": edit}))
    assert caught.value.code == code
    assert gang.state() == before
    assert gang.run(backward()).result["runs"]["r"]["loss"]
