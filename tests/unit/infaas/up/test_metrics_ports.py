"""Tests of `MetricsPorts`: stable ports at each start, and different ones for two systems on a machine."""

import socket
from contextlib import suppress
from pathlib import Path

import pytest

from infaas.up import metrics_ports
from infaas.up.metrics_ports import FIRST, MetricsPorts
from infaas.up.options import UpOptions
from process.sockets import LOOPBACK, claim_port, free_port
from schemas.errors import OperatorError

HOME = Path("home")


def free_ports(count: int) -> int:
    """Return the first of `count` consecutive free ports."""
    while True:
        first = free_port()
        with suppress(OperatorError):
            for number in range(count):
                claim_port(first + number, "--metrics-port")
            return first


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Use ports of this test only, since another system may run on this machine."""
    mine = {service: free_port() for service in FIRST}
    monkeypatch.setattr(metrics_ports, "FIRST", mine)
    return mine


def test_metrics_ports_are_the_same_at_each_start(ranges: dict[str, int]) -> None:
    for _ in range(2):
        with MetricsPorts(UpOptions(home=HOME)) as ports:
            assert {service: ports.find(service, 0) for service in ranges} == ranges
            assert ports.find("workers", 0) == ranges["workers"], "started again"


def test_metrics_ports_of_two_systems_differ(ranges: dict[str, int]) -> None:
    with MetricsPorts(UpOptions(home=HOME)) as one, MetricsPorts(UpOptions(home=HOME)) as other:
        found = [ports.find(service, 0) for ports in (one, other) for service in ranges]
    assert len(set(found)) == len(found)


def test_metrics_ports_avoid_port_in_use(ranges: dict[str, int]) -> None:
    with socket.create_server((LOOPBACK, ranges["jobs"])), MetricsPorts(UpOptions(home=HOME)) as ports:
        assert ports.find("jobs", 0) not in (ranges["jobs"], 0)


def test_metrics_ports_follow_configured_first_port(ranges: dict[str, int]) -> None:
    first = free_ports(17)
    options = UpOptions(home=HOME, metrics_port=first, autoscalers=2, selectors=3, gateways=4, jobs=5)
    with MetricsPorts(options) as ports:
        assert [ports.find("autoscaler", 1), ports.find("workers", 1)] == [first + 1, first + 16]
        with socket.create_server((LOOPBACK, first)), pytest.raises(OperatorError, match="--metrics-port"):
            ports.find("autoscaler", 0)
