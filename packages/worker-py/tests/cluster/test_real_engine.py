"""The real engine behind the real gang: two ranks under Ray, the sandbox, files in the result."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from safetensors.torch import load

from patchbay_protocol import worker_pb2 as pb
from support.checkpoints import make_checkpoint
from support.gang_client import GangClient, gang_client
from support.gateway import Gateway

MODULE = "model.layers.1.mlp.gate_proj"


@pytest.fixture(scope="module")
def replica(gate: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pb.Replica]:
    path = make_checkpoint(tmp_path_factory.mktemp("llama"), "llama")
    yield gate.deploy_ready("real", str(path), tp=2).replicas[0]
    gate.undeploy("real")


@pytest.fixture
def client(replica: pb.Replica) -> Iterator[GangClient]:
    with gang_client(replica) as connected:
        yield connected


def document(source: str, **limits: int) -> dict[str, Any]:
    hook = {"name": "h", "moduleName": MODULE, "edit": {"kind": "python", "source": source}}
    run = {"name": "r", "inputs": {"text": ["w3 w4 w5"]}, "return": {"logits": "last"}}
    return {"version": 1, "model": "real", "hooks": [hook], "runs": [run], "limits": limits}


def test_an_edit_of_a_sharded_module_comes_back_with_its_files(client: GangClient) -> None:
    source = "def edit(m, x, save_ctx, ms):\n    save_ctx.shape = list(x.shape)\n    print('seen')\n    return x * 0"
    result = client.run("edited", document(source))
    assert result["saveCtx"]["shape"] == [1, 3, 128], "the full width, once"
    (report,) = result["hooks"]
    assert (report["route"], report["calls"]) == ("root", 1)
    files = {name: base64.b64decode(entry["inline"]) for name, entry in result["files"].items()}
    assert files["logs.txt"] == b"seen\n"
    activations = load(files["activations.safetensors"])
    assert [list(tensor.shape) for tensor in activations.values()] == [[1, 3, 128]]
    assert load(files["outputs.safetensors"])["r/logits"].shape[-1] == 128


def test_a_traced_job_tells_what_each_rank_did_and_when(client: GangClient) -> None:
    key = client.key("traced")
    client.start(key, document("def edit(m, x, s, ms):\n    return x * 2"), traceparent="00-trace")
    client.until_end(key)
    gang = json.loads(client.last.spans_json)
    assert [rank["name"] for rank in gang["children"]] == ["rank 0", "rank 1"]
    for rank in gang["children"]:
        prepare, forward, write = rank["children"]
        assert [prepare["name"], forward["name"], write["name"]] == ["prepare", "forward", "write"]
        (hook,) = forward["children"]
        assert (hook["name"], hook["attributes"]["module"], hook["attributes"]["calls"]) == ("hook h", MODULE, 1)
    root_hook, peer_hook = (rank["children"][1]["children"][0] for rank in gang["children"])
    assert root_hook["attributes"]["editMs"] > 0
    assert peer_hook["attributes"]["editMs"] == 0, "it only gave its part and waited"
    assert outside(gang) == []


def outside(span: dict[str, Any]) -> list[str]:
    """Spans that do not lie within the one around them."""
    lasts = span["endMs"] - span["startMs"]
    children = span.get("children", [])
    wrong = [each["name"] for each in children if not 0 <= each["startMs"] <= each["endMs"] <= lasts + 0.002]
    return wrong + [name for each in children for name in outside(each)]


def test_nothing_is_told_of_a_job_that_is_not_traced(client: GangClient) -> None:
    client.run("untraced", document("def edit(m, x, s, ms):\n    return x"))
    assert client.last.spans_json == b""


def test_a_failing_edit_fails_its_job_only(client: GangClient) -> None:
    problem = client.run("raises", document("def edit(m, x, s, ms):\n    raise ValueError('mine')"))
    assert (problem["code"], problem["remote"]["type"]) == ("PB_EDIT_FAILED", "ValueError")
    assert "runs" in client.run("next", document("def edit(m, x, s, ms):\n    return x"))


def test_an_endless_edit_is_ended_by_cancel_at_once(client: GangClient) -> None:
    key = client.key("endless")
    client.start(key, document("def edit(m, x, s, ms):\n    while True: pass", editTimeoutMs=60_000))
    assert client.next().WhichOneof("update") == "running"
    client.cancel(key, "seen enough")
    assert client.until_end(key)[1]["code"] == "PB_JOB_CANCELLED"
    assert client.run("after", document("def edit(m, x, s, ms):\n    return x"))["hooks"], "on the same gang"


def test_an_unknown_module_is_refused_before_any_rank_moves(client: GangClient) -> None:
    wrong = document("def edit(m, x, s, ms):\n    return x")
    wrong["hooks"][0]["moduleName"] = "model.layers.1.mlp.gate_prj"
    key = client.key("unknown")
    client.start(key, wrong)
    kinds, problem = client.until_end(key)
    assert (kinds, problem["code"]) == (["failed_json"], "PB_HOOK_MODULE_NOT_FOUND")
    assert problem["path"] == "hooks[0].moduleName"
