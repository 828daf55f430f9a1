"""What the runs of one job share, which hooks are on, and what is said about captures that could not be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from support.gang import Gang
from support.plain_hooks import plain_logits, plain_model

A, B = [[5, 9, 31, 4]], [[7, 3, 100, 8]]
LOGITS = {"return": {"logits": "all"}}


def python(body: str) -> dict[str, str]:
    return {"kind": "python", "source": f"def edit(current_module, inputs, save_ctx, modules):\n{body}"}


def test_a_value_goes_from_run_to_run(gang: Gang, llama: Path) -> None:
    module = "model.layers.1.mlp.up_proj"
    document = {
        "hooks": [
            {
                "name": "keep",
                "moduleName": module,
                "groups": ["keep"],
                "edit": python("    save_ctx.x = inputs.clone()\n    return inputs"),
            },
            {"name": "put", "moduleName": module, "groups": ["put"], "edit": python("    return save_ctx.x")},
        ],
        "runs": [
            {"name": "a", "inputs": {"tokenIds": A}, "hooks": {"groups": ["keep"]}},
            {"name": "b", "inputs": {"tokenIds": B}, "hooks": {"groups": ["put"]}, **LOGITS},
        ],
    }
    outcome = gang.run(document)
    kept: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value)
        return value

    plain_logits(llama, A, (module, "forward", keep))
    want = plain_logits(llama, B, (module, "forward", lambda _: kept[0]))
    assert (want - plain_logits(llama, B)).abs().max() > 1e-3
    torch.testing.assert_close(outcome.tensor("b/logits"), want, atol=2e-5, rtol=0)
    torch.testing.assert_close(outcome.tensor("x", "save_ctx.safetensors"), kept[0], atol=2e-5, rtol=0)


def test_modules_are_drawn_by_the_seed_and_returned(gang: Gang, llama: Path) -> None:
    module = "model.layers.2.mlp.gate_proj"
    document = {
        "seed": 7,
        "modules": {"projection": {"kind": "linear", "inFeatures": 128, "outFeatures": 128}},
        "hooks": [{"name": "h", "moduleName": module, "edit": python("    return modules['projection'](inputs)")}],
        "runs": [{"name": "r", "inputs": {"tokenIds": A}, **LOGITS}],
    }
    outcome = gang.run(document)
    torch.manual_seed(7)
    projection = nn.Linear(128, 128)
    weights = outcome.files["modules.safetensors"]
    assert torch.equal(weights["projection.weight"], projection.weight)
    want = plain_logits(llama, A, (module, "forward", lambda value: projection(value)))
    assert (want - plain_logits(llama, A)).abs().max() > 1e-3
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=2e-5, rtol=0)


def test_groups_names_and_complements(pair: Gang) -> None:
    hooks = [
        {"name": name, "moduleName": "model.norm", "groups": groups}
        for name, groups in (("a", ["x"]), ("b", ["x", "y"]), ("c", ["y"]), ("d", []))
    ]
    chosen: list[tuple[dict[str, Any], str]] = [
        ({}, "abcd"),
        ({"groups": ["all"]}, "abcd"),
        ({"groups": ["x"]}, "ab"),
        ({"groups": ["x", "y"]}, "abc"),
        ({"groups": ["x"], "complement": True}, "cd"),
        ({"groups": ["all"], "complement": True}, ""),
        ({"names": ["d", "a"]}, "ad"),
        ({"names": []}, ""),
    ]
    runs = [
        {"name": f"r{index}", "inputs": {"tokenIds": A}, "hooks": selection}
        for index, (selection, _) in enumerate(chosen)
    ]
    reports = pair.run({"hooks": hooks, "runs": runs}).result["hooks"]
    for index, (_, want) in enumerate(chosen):
        assert "".join(report["hook"] for report in reports if report["run"] == f"r{index}") == want


def test_a_glob_hooks_every_match_in_module_order(pair: Gang) -> None:
    outcome = pair.run(
        {"hooks": [{"name": "h", "moduleName": "model.layers.*"}], "runs": [{"name": "r", "inputs": {"tokenIds": A}}]}
    )
    modules = [each["module"] for each in outcome.result["activations"]]
    assert modules == [f"model.layers.{index}" for index in range(4)]
    assert [each["tensor"] for each in outcome.result["activations"]] == [f"r/h/{name}/0" for name in modules]


def test_a_capture_that_never_came_says_why(pair: Gang) -> None:
    hooks = [
        {"name": "never", "moduleName": "model.layers.1", "where": {"positions": [3]}},
        {"name": "skipped", "moduleName": "model.layers"},
        {"name": "unsaved", "moduleName": "model.layers", "save": "none"},
    ]
    outcome = pair.run({"hooks": hooks, "runs": [{"name": "r", "inputs": {"tokenIds": A}}]})
    by_hook = {each["hook"]: each for each in outcome.result["activations"]}
    assert "missing" not in by_hook["never"]
    assert by_hook["skipped"]["missing"] == "module-not-called"
    assert "unsaved" not in by_hook


def test_other_leaves_of_kwargs(pair: Gang, llama: Path) -> None:
    """Attention is called by keywords only; leaf 3 is the cosine of its positions, behind a mask (padded batches) or
    without one: plain torch finds it one place earlier there.
    """
    hook = {"name": "h", "moduleName": "model.layers.1.self_attn", "hookType": "forward_pre", "unpackIdx": 3}
    document = {
        "hooks": [{**hook, "edit": python("    return inputs * 0.5")}],
        "runs": [{"name": "r", "inputs": {"tokenIds": A}, **LOGITS}],
    }
    outcome = pair.run(document)
    want = plain_logits(llama, A, ("model.layers.1.self_attn", "forward_pre", lambda value: value * 0.5, 2))
    assert (want - plain_logits(llama, A)).abs().max() > 1e-3
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=2e-5, rtol=0)

    def read(tokens: list[list[int]]) -> Tensor:
        outcome = pair.run({"hooks": [hook], "runs": [{"name": "r", "inputs": {"tokenIds": tokens}}]})
        return outcome.captured("r/h/model.layers.1.self_attn/0")

    ragged, uniform = read([[5, 9, 31, 4], [7, 3]]), read([[5, 9, 31, 4]])
    assert torch.equal(ragged[:1], uniform)
    assert torch.equal(uniform[0, 0], torch.ones(8)), "cos 0"
    mask = {**hook, "unpackIdx": 1}
    outcome = pair.run({"hooks": [mask], "runs": [{"name": "r", "inputs": {"tokenIds": A}}]})
    assert outcome.result["activations"][0]["missing"] == "no-tensor"


def test_description_names_layouts_and_full_shapes(pair: Gang, llama: Path) -> None:
    description = pair.load(llama)
    sites = {(each["module"], each["hookType"], each["leaf"]): each for each in description["sites"]}
    gate = sites["model.layers.0.mlp.gate_proj", "forward", 0]
    assert (gate["shape"], gate["layout"], gate["shardDim"]) == (["B", "S", 128], "sharded", 2)
    norm = sites["model.norm", "forward", 0]
    assert (norm["shape"], norm["layout"], norm["shardDim"]) == (["B", "S", 64], "replicated", None)
    assert {"name": "model.layers.0.mlp", "className": "LlamaMLP"} in description["modules"]
    shapes = {each["name"]: each["shape"] for each in description["parameters"]}
    assert shapes == {name: list(value.shape) for name, value in plain_model(llama).named_parameters()}
    assert (description["vocabSize"], description["maxPositions"], description["layers"]) == (128, 64, 4)


def test_the_fingerprint_is_of_the_checkpoint(pair: Gang, llama: Path) -> None:
    result = pair.run({"runs": [{"inputs": {"tokenIds": A}}]}).result
    assert result["fingerprint"]["mesh"] == {"pp": 1, "dp": 1, "tp": 2}
    assert len(result["fingerprint"]["modelSha256"]) == 64
    assert result["fingerprint"]["sandboxLevel"]


def test_an_edit_that_was_never_called_is_warned_about(pair: Gang) -> None:
    """A list of layers is never called; token ids have no gradient."""
    edit = {"kind": "python", "source": "def edit(current_module, inputs, save_ctx, modules):\n    return inputs * 2"}
    hooks = [
        {"name": "list", "moduleName": "model.layers", "edit": edit},
        {"name": "ids", "moduleName": "model.embed_tokens", "hookType": "full_backward", "edit": edit},
        {"name": "called", "moduleName": "model.layers.1", "edit": edit},
        {"name": "read", "moduleName": "model.layers"},
    ]
    backward = {"name": "r", "mode": "backward", "inputs": {"tokenIds": [[5, 9, 31]]}, "loss": {"kind": "nextToken"}}
    warnings = pair.run({"hooks": hooks, "runs": [backward]}).result["warnings"]
    assert warnings == [
        "list at model.layers in run r: the edit was never called",
        "ids at model.embed_tokens in run r: the edit was never called",
    ]
