"""A failing edit fails its job alone: the ranks end together, the next job is served, the model is as it was."""

from __future__ import annotations

import time
from typing import Any

import pytest

from patchbay_worker.errors import PatchbayError
from support.gang import Gang, Outcome

RUN: dict[str, Any] = {"name": "r", "inputs": {"tokenIds": [[5, 9, 31]]}, "return": {"logits": "all"}}
SHARDED, REPLICATED = "model.layers.1.mlp.gate_proj", "model.layers.1"
COUNTING = "def edit(current_module, inputs, save_ctx, modules):\n    print('edit', current_module.run)\n"


def job(module: str, body: str, **more: Any) -> dict[str, Any]:
    hook = {"name": "h", "moduleName": module, "edit": {"kind": "python", "source": COUNTING + body}}
    return {"hooks": [hook], "runs": [RUN], **more}


def logits(outcome: Outcome) -> Any:
    return outcome.tensor("r/logits")


@pytest.mark.parametrize("module", [SHARDED, REPLICATED])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("    raise ValueError('mine')\n", "PB_EDIT_FAILED"),
        ("    return None\n", "PB_EDIT_RETURNED_NONE"),
        ("    return inputs[..., :1]\n", "PB_EDIT_SHAPE"),
        ("    return inputs.double()\n", "PB_EDIT_DTYPE"),
        ("    while True: pass\n", "PB_EDIT_TIMEOUT"),
    ],
)
def test_the_next_job_is_not_touched(gang: Gang, module: str, body: str, code: str) -> None:
    before, weights = logits(gang.run({"runs": [RUN]})), gang.state()
    with pytest.raises(PatchbayError) as caught:
        gang.run(job(module, body, limits={"editTimeoutMs": 300}))
    assert caught.value.code == code
    assert (logits(gang.run({"runs": [RUN]})) == before).all()
    assert gang.state() == weights
    assert all(hooks == weights[rank][1] for rank, (_, hooks) in enumerate(gang.state()))


def test_no_edit_and_no_run_follows_a_failure(pair: Gang) -> None:
    hook = {"name": "h", "moduleName": "model.layers.*"}
    body = "    if current_module.name == 'model.layers.1': raise ValueError('mine')\n    return inputs\n"
    document = {
        "hooks": [{**hook, "edit": {"kind": "python", "source": COUNTING.replace("run", "name") + body}}],
        "runs": [RUN, {**RUN, "name": "second"}],
    }
    pair.prepare(document)
    with pytest.raises(PatchbayError) as caught:
        pair.go()
    assert caught.value.code == "PB_EDIT_FAILED"
    assert caught.value.remote is not None
    assert caught.value.remote["type"] == "ValueError"
    assert pair.events() == [{"type": "log", "text": "edit model.layers.0\nedit model.layers.1\n"}]


def test_a_generation_stops_at_the_step_that_failed(pair: Gang) -> None:
    body = "    if current_module.step == 2: raise ValueError('mine')\n    return inputs\n"
    run = {**RUN, "mode": "generate", "maxNewTokens": 40}
    with pytest.raises(PatchbayError) as caught:
        pair.run(job(SHARDED, body, runs=[run]))
    assert caught.value.code == "PB_EDIT_FAILED"
    assert pair.run({"runs": [RUN]}).result["runs"]["r"]["tokenIds"] == [[5, 9, 31]]


def test_token_ids_out_of_the_vocabulary_fail_the_job_only(pair: Gang) -> None:
    hook = job("model.embed_tokens", "    return inputs + 1000\n")
    hook["hooks"][0]["hookType"] = "forward_pre"
    with pytest.raises(PatchbayError) as caught:
        pair.run(hook)
    assert caught.value.code == "PB_TOKEN_OUT_OF_RANGE"
    assert pair.run({"runs": [RUN]}).result["warnings"] == []


def test_a_failure_in_the_last_run_does_not_leave_ranks_in_a_collective(pair: Gang) -> None:
    document = job(SHARDED, "    raise ValueError('mine')\n", **{"return": {"parameters": ["lm_head.weight"]}})
    with pytest.raises(PatchbayError) as caught:
        pair.run(document)
    assert caught.value.code == "PB_EDIT_FAILED"
    assert pair.run({"runs": [RUN]}).result["warnings"] == []


def test_a_cancel_ends_an_edit_under_way(pair: Gang) -> None:
    pair.prepare(job(SHARDED, "    while True: pass\n", limits={"editTimeoutMs": 60000}))
    pair.start()
    pair.cancel("not wanted any more")
    with pytest.raises(PatchbayError) as caught:
        pair.finish()
    assert caught.value.code == "PB_JOB_CANCELLED"
    assert "not wanted any more" in caught.value.message
    assert pair.run({"runs": [RUN]}).result["warnings"] == []


def test_the_deadline_ends_a_job_between_steps(pair: Gang) -> None:
    run = {**RUN, "mode": "generate", "maxNewTokens": 2}
    with pytest.raises(PatchbayError) as caught:
        pair.run({"runs": [run]}, deadline_unix_ms=int(time.time() * 1e3) - 1)
    assert caught.value.code == "PB_JOB_TIMEOUT"


def test_a_discarded_job_frees_its_sandbox(pair: Gang) -> None:
    for _ in range(4):  # more than the pool holds
        pair.prepare(job(SHARDED, "    return inputs\n"))
        pair._ask_all(("abort",))
    assert pair.run(job(SHARDED, "    return inputs\n")).report("h")["rowsTouched"] == 0


def test_prints_become_logs(pair: Gang) -> None:
    outcome = pair.run(job(SHARDED, "    return inputs\n"))
    assert outcome.logs == "edit r\n"
    assert {"type": "log", "text": "edit r\n"} in outcome.events
