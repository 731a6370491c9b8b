"""Tests of `CallPlaces`: limits for open calls, in total and per client."""

import pytest

from gateway.grpc.places import CallPlaces, host_of
from schemas.errors import Overloaded


def test_call_places_limit_total_and_each_client() -> None:
    places = CallPlaces("calls", 3, 2)
    with places.taken("a"), places.taken("a"):
        with pytest.raises(Overloaded, match="2 calls of one client"), places.taken("a"):
            pass
        with places.taken("b"), pytest.raises(Overloaded, match="3 calls are open"), places.taken("c"):
            pass
        with places.taken("c"):
            pass
    with places.taken("a"), places.taken("a"):
        pass


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:4242", "ipv4:10.0.0.1"),
        ("ipv6:%5B::1%5D:4242", "ipv6:%5B::1%5D"),
        ("unknown", "unknown"),
    ],
)
def test_host_of_removes_port(peer: str, host: str) -> None:
    assert host_of(peer) == host
