"""One Ray head and one gateway for all tests of the cluster; gangs run the fake engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fake_engine import ENVIRONMENT
from support.gang_client import GangClient, gang_client
from support.gateway import Gateway, gateway
from support.ray_cluster import RayCluster, ray_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(extra_env=ENVIRONMENT) as running:
        yield running


@pytest.fixture(scope="session")
def gate(cluster: RayCluster) -> Iterator[Gateway]:
    with gateway(cluster) as running:
        yield running


@pytest.fixture(scope="module")
def pair(gate: Gateway) -> Iterator[str]:
    """A deployment of two ranks, for tests that leave it whole."""
    gate.deploy_ready("pair", "fake:model", tp=2)
    yield "pair"
    gate.undeploy("pair")


@pytest.fixture
def client(gate: Gateway, pair: str) -> Iterator[GangClient]:
    ready = gate.until(pair, lambda deployment: deployment.replicas[0].token != "")
    with gang_client(ready.replicas[0]) as connected:
        yield connected
