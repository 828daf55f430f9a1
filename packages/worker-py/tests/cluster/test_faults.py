"""A gang is lost as a whole and comes back in the next epoch; every test ends its own gang."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator

import grpc
import psutil
import pytest

from patchbay_protocol import worker_pb2 as pb
from support.documents import job
from support.gang_client import gang_client
from support.gateway import Gateway, error_of


@pytest.fixture
def replica(gate: Gateway) -> Iterator[pb.Replica]:
    yield gate.deploy_ready("frail", "fake:model", tp=2).replicas[0]
    gate.undeploy("frail")


def ready_in(epoch: int) -> Callable[[pb.Deployment], bool]:
    return lambda found: found.replicas[0].epoch == epoch and found.replicas[0].state == pb.REPLICA_STATE_READY


def assert_works(gate: Gateway, epoch: int) -> pb.Replica:
    replica = gate.until("frail", ready_in(epoch)).replicas[0]
    with gang_client(replica) as client:
        assert client.run("works-again", job())["timings"]["executed"] == 1
    return replica


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_costs_its_job_and_the_gang_comes_back(gate: Gateway, replica: pb.Replica, rank: int) -> None:
    pids = [each["pid"] for each in json.loads(replica.ranks_json)]
    with gang_client(replica) as client:
        running, waiting = client.key("killed"), client.key("waited")
        client.start(running, job(f"die:{rank}"))
        client.start(waiting, job())
        problem = client.until_end(running)[1]
        assert (problem["code"], problem["retryable"]) == ("PB_GANG_LOST", True)
        assert f"rank {rank}" in problem["message"]
        other = client.until_end(waiting)[1]
        assert (other["code"], other["retryable"]) == ("PB_MODEL_NOT_READY", True)
        with pytest.raises(grpc.RpcError) as caught:
            client.next()
        assert error_of(caught.value)["code"] == "PB_GANG_LOST"
    again = assert_works(gate, epoch=2)
    assert again.address == replica.address
    assert again.token != replica.token
    assert not any(_is_rank(pid) for pid in pids), "the survivor is killed too"
    with gang_client(replica) as stale, pytest.raises(grpc.RpcError) as refused:
        stale.run("old-token", job())
    assert error_of(refused.value)["code"] == "PB_UNAUTHORIZED"


def test_a_stopped_rank_is_found_by_its_heartbeat(gate: Gateway, replica: pb.Replica) -> None:
    with gang_client(replica) as client:
        problem = client.run("stopped", job("stop:1"))
    assert problem["code"] == "PB_GANG_LOST"
    assert "pings" in problem["message"]
    assert_works(gate, epoch=2)


def test_an_unexpected_exception_ends_the_gang(gate: Gateway, replica: pb.Replica) -> None:
    with gang_client(replica) as client:
        problem = client.run("bug", job("bug"))
    assert problem["code"] == "PB_GANG_LOST"
    assert "an assertion of ours" in problem["message"]
    assert_works(gate, epoch=2)


def test_a_job_that_does_not_stop_when_cancelled_costs_the_gang(gate: Gateway, replica: pb.Replica) -> None:
    with gang_client(replica) as client:
        key = client.key("deaf")
        client.start(key, job("ignore"))
        assert client.next().WhichOneof("update") == "running"
        client.cancel(key, "stop it")
        problem = client.until_end(key)[1]
    assert problem["code"] == "PB_JOB_CANCELLED"
    assert_works(gate, epoch=2)


def test_ranks_leave_with_their_supervisor_and_ray_starts_it_again(gate: Gateway, replica: pb.Replica) -> None:
    ranks = [psutil.Process(each["pid"]) for each in json.loads(replica.ranks_json)]
    (supervisor,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any("GroupSupervisor" in part for part in process.info["cmdline"] or ())
        and _listens(process, replica.address)
    ]
    os.kill(supervisor.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(ranks, timeout=10)
    assert not alive
    back = gate.until("frail", lambda found: _later(found.replicas[0], replica)).replicas[0]
    assert back.epoch > replica.epoch
    with gang_client(back) as client:
        assert client.run("works-again", job())["timings"]["executed"] == 1


def _later(found: pb.Replica, than: pb.Replica) -> bool:
    return bool(found.state == pb.REPLICA_STATE_READY and found.token not in ("", than.token))


def _listens(process: psutil.Process, address: str) -> bool:
    port = int(address.rpartition(":")[2])
    return any(each.laddr.port == port and each.status == "LISTEN" for each in process.net_connections("tcp"))


def _is_rank(pid: int) -> bool:
    try:
        return str(psutil.Process(pid).cmdline()[0]).startswith("ray::Rank")
    except (psutil.Error, IndexError):
        return False
