"""Jobs on a gang of two ranks over one long stream."""

from __future__ import annotations

import time

import grpc
import pytest

from patchbay_protocol import worker_pb2 as pb
from support.documents import job
from support.gang_client import GangClient, gang_client
from support.gateway import Gateway, error_of


def test_a_job_runs_on_all_ranks_and_comes_back(client: GangClient) -> None:
    key = client.key("plain")
    client.start(key, job())
    kinds, result = client.until_end(key)
    assert kinds == ["running", "done_json"]
    assert result["files"] == {}
    assert "transferMs" in result["timings"]


def test_events_come_before_the_result_and_in_order(client: GangClient) -> None:
    key = client.key("events")
    client.start(key, job("events:50"))
    kinds, _ = client.until_end(key)
    assert kinds == ["running", *["event_json"] * 50, "done_json"]


def test_a_resent_start_is_answered_from_memory(gate: Gateway, pair: str, client: GangClient) -> None:
    key = client.key("resent")
    client.start(key, job("events:3"))
    _, first = client.until_end(key)
    client.start(key, job("events:3"), after_seq=4)
    assert client.until_end(key) == (["done_json"], first), "the result of the first run, events are not told twice"
    client.start(key, job("events:3"), after_seq=2)
    assert client.until_end(key) == (["event_json"] * 2 + ["done_json"], first), "only what was not heard"
    with gang_client(gate.present()[pair].replicas[0]) as other:
        other.start(key, job("events:3"))
        assert other.until_end(key)[1] == first
    after = client.run("after-resent", job())
    assert after["timings"]["executed"] == first["timings"]["executed"] + 1


def test_a_broken_stream_finds_its_running_job_again(gate: Gateway, pair: str, client: GangClient) -> None:
    key = client.key("broken")
    client.start(key, job("wait"))
    assert client.next().WhichOneof("update") == "running"
    client.close()
    with gang_client(gate.present()[pair].replicas[0]) as other:
        other.start(key, job("wait"))
        other.cancel(key, "enough")
        kinds, problem = other.until_end(key)
    assert kinds[-1] == "failed_json"
    assert (problem["code"], "enough" in problem["message"]) == ("PB_JOB_CANCELLED", True)


def test_a_refusal_of_one_rank_stops_all_before_any_moves(client: GangClient) -> None:
    before = client.run("before-refusal", job())["timings"]
    for rank in (0, 1):
        key = client.key(f"refused-{rank}")
        client.start(key, job(f"refuse:{rank}"))
        kinds, problem = client.until_end(key)
        assert kinds == ["failed_json"]
        assert problem["code"] == "PB_NOT_SHARDABLE"
        assert f"rank {rank}" in problem["message"]
    after = client.run("after-refusal", job())["timings"]
    assert after["executed"] == before["executed"] + 1
    assert after["discarded"] == before["discarded"] + 1, "rank 0 had prepared the job that rank 1 refused"


def test_a_failed_job_tells_the_error_of_rank_0(client: GangClient) -> None:
    problem = client.run("failed", job("fail"))
    assert (problem["code"], problem["message"].endswith("rank 0")) == ("PB_EDIT_FAILED", True)
    assert "runs" in client.run("after-failed", job())


def test_an_invalid_document_is_refused_with_its_path(client: GangClient) -> None:
    problem = client.run("invalid", {**job(), "runs": [{"inputs": {"txt": ["a"]}}]})
    assert (problem["code"], problem["path"]) == ("PB_DOCUMENT_UNKNOWN_KEY", "runs[0].inputs.txt")


def test_jobs_run_one_at_a_time_in_order(client: GangClient) -> None:
    keys = [client.key(f"order-{index}") for index in range(20)]
    for key in keys:
        client.start(key, job())
    executed = [client.until_end(key)[1]["timings"]["executed"] for key in keys]
    assert executed == list(range(executed[0], executed[0] + 20))


def test_cancel_stops_a_running_and_removes_a_waiting_job(client: GangClient) -> None:
    running, waiting = client.key("cancel-running"), client.key("cancel-waiting")
    client.start(running, job("wait"))
    client.start(waiting, job())
    client.cancel(waiting, "not needed")
    kinds, problem = client.until_end(waiting)
    assert (kinds, problem["code"]) == (["failed_json"], "PB_JOB_CANCELLED")
    client.cancel(running, "changed my mind")
    _, problem = client.until_end(running)
    assert (problem["code"], "changed my mind" in problem["message"]) == ("PB_JOB_CANCELLED", True)
    assert client.run("after-cancel", job())["runs"] == {}


def test_a_job_past_its_deadline_is_stopped(client: GangClient) -> None:
    deadline = int(time.time() * 1e3) + 200
    problem = client.run("late", job("wait", limits={"timeoutMs": 200}), deadline_unix_ms=deadline)
    assert (problem["code"], "200" in problem["message"]) == ("PB_JOB_TIMEOUT", True)


def test_an_older_attempt_is_refused_and_a_newer_one_ends_the_older(client: GangClient) -> None:
    first, second = client.key("attempts", 1), client.key("attempts", 2)
    client.start(first, job("wait"))
    assert client.next().WhichOneof("update") == "running"
    client.start(second, job())
    assert client.until_end(first)[1]["code"] == "PB_JOB_CANCELLED"
    assert client.until_end(second)[0][-1] == "done_json"
    client.start(first, job())
    assert client.until_end(first)[1]["code"] == "PB_STALE_ATTEMPT"


def test_another_epoch_is_refused(client: GangClient) -> None:
    key = client.key("old-epoch", epoch=client.epoch + 1)
    client.start(key, job())
    assert client.until_end(key)[1]["code"] == "PB_STALE_ATTEMPT"


def test_validation_works_while_a_job_runs(client: GangClient) -> None:
    running, asked, refused = client.key("busy"), client.key("ask", 0), client.key("ask-bad", 0)
    client.start(running, job("wait"))
    assert client.next().WhichOneof("update") == "running"
    client.validate(asked, job())
    assert client.until_end(asked) == (["validated_json"], {"warnings": ["seen by rank 0"]})
    client.validate(refused, job("refuse"))
    assert client.until_end(refused)[1]["path"] == "hooks[0].moduleName"
    client.cancel(running, "done")
    client.until_end(running)


def test_a_wrong_token_is_turned_away(gate: Gateway, pair: str) -> None:
    replica = gate.present()[pair].replicas[0]
    for token in ("", "wrong"):
        stranger = pb.Replica(epoch=replica.epoch, address=replica.address, token=token)
        with gang_client(stranger) as client, pytest.raises(grpc.RpcError) as caught:
            client.run("never", job())
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert error_of(caught.value)["code"] == "PB_UNAUTHORIZED"


def test_the_way_through_the_gateway_is_the_same_job(gate: Gateway, pair: str, client: GangClient) -> None:
    key = client.key("via")
    client.start(key, job("events:2"))
    _, direct = client.until_end(key)
    start = pb.StartJob(document_json=b"{}", after_seq=3)
    request = pb.ExecuteRequest(key=key, start=start)
    via = list(gate.call("ExecuteVia", pb.ExecuteViaRequest(deployment=pair, replica=0, request=request)))
    assert [update.WhichOneof("update") for update in via] == ["done_json"], "answered from the same memory"
    fresh = pb.ExecuteRequest(key=client.key("via-fresh"), start=pb.StartJob(document_json=_bytes(job("events:2"))))
    updates = list(gate.call("ExecuteVia", pb.ExecuteViaRequest(deployment=pair, replica=0, request=fresh)))
    assert [each.WhichOneof("update") for each in updates] == ["running", "event_json", "event_json", "done_json"]
    assert direct["runs"] == {}


def _bytes(document: dict[str, object]) -> bytes:
    import json

    return json.dumps(document).encode()
