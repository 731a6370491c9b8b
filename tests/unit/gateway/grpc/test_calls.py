"""Names of callers in gRPC."""

import pytest

from gateway.grpc.calls import host_of


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:4242", "ipv4:10.0.0.1"),
        ("ipv6:%5B::1%5D:4242", "ipv6:%5B::1%5D"),
        ("unknown", "unknown"),
    ],
)
def test_host_of_removes_the_port_of_a_peer(peer: str, host: str) -> None:
    assert host_of(peer) == host
