"""A port that was found free is not found again while nobody listens on it yet."""

import socket
from collections import deque
from pathlib import Path

import pytest

from process.ports import LOOPBACK, address_text, claim_port, free_port
from schemas.errors import OperatorError


def test_the_same_port_is_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel says to be free was given to another part a moment ago, and nobody listens there yet."""
    monkeypatch.setattr("process.ports._given", deque[int](maxlen=256))
    found = iter([1_051, 1_691, 1_691, 1_051, 1_692])

    def says(_probe: socket.socket) -> tuple[str, int]:
        return LOOPBACK, next(found)

    monkeypatch.setattr(socket.socket, "getsockname", says)
    assert [free_port(), claim_port(0, "--kafka-port"), free_port()] == [1_051, 1_691, 1_692]


def test_a_connection_takes_no_port_that_was_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "ip_local_port_range"
    told.write_text("24000\t60999\n")
    monkeypatch.setattr("process.ports._RANGE_OF_CONNECTIONS", told)
    assert all(20_000 <= free_port() < 24_000 for _ in range(50))


@pytest.mark.parametrize("said", ["1024 65535", "", "no numbers"])
def test_where_connections_may_take_any_port_the_kernel_chooses(
    said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "ip_local_port_range"
    told.write_text(said)
    monkeypatch.setattr("process.ports._RANGE_OF_CONNECTIONS", told)
    assert free_port() >= 1024


def test_a_port_that_is_given_can_be_listened_on() -> None:
    port = free_port()
    assert claim_port(port, "--kafka-port") == port


def test_an_address_of_ipv6_has_ports_and_stands_in_brackets() -> None:
    port = claim_port(0, "--gateway-port", "::1")
    with socket.create_server(("::1", port), family=socket.AF_INET6), pytest.raises(OperatorError, match="is taken"):
        claim_port(port, "--gateway-port", "::1")
    assert address_text("::1", port) == f"[::1]:{port}"
    assert address_text(LOOPBACK, port) == f"{LOOPBACK}:{port}"
