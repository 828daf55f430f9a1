"""A gateway outside of the cluster, connected by Ray Client: control works the same."""

from __future__ import annotations

import json
from dataclasses import replace

from patchbay_protocol import worker_pb2 as pb
from support.documents import job
from support.gang_client import gang_client
from support.gateway import gateway
from support.ray_cluster import RayCluster


def test_a_gateway_outside_deploys_runs_and_removes(cluster: RayCluster) -> None:
    env = {**cluster.env, "RAY_ADDRESS": cluster.client_address}
    with gateway(replace(cluster, env=env)) as outside:
        replica = outside.deploy_ready("outside", "fake:model", tp=2).replicas[0]
        assert not replica.address.startswith("127."), "clients may be on other hosts"
        with gang_client(replica) as client:
            assert client.run("direct", job())["runs"] == {}
        start = pb.StartJob(document_json=json.dumps(job("events:1")).encode())
        request = pb.ExecuteRequest(key=pb.JobKey(job_id="via", attempt=1, epoch=1), start=start)
        updates = list(outside.call("ExecuteVia", pb.ExecuteViaRequest(deployment="outside", request=request)))
        assert [update.WhichOneof("update") for update in updates] == ["running", "event_json", "done_json"]
        described = json.loads(outside.call("DescribeCluster", pb.DescribeClusterRequest()).cluster_json)
        assert described["nodes"][0]["used"]["CPU"] >= 2
        assert outside.undeploy("outside")
        assert "outside" not in outside.present()
