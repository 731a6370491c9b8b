"""Tests of free ports: a port that was found free is not returned again before it has a listener."""

import socket
from collections import deque
from pathlib import Path

import pytest

from process.ports import LOOPBACK, address_text, claim_port, free_port
from schemas.errors import OperatorError


def test_free_port_never_returns_a_port_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports a port as free that was just returned and has no listener yet."""
    monkeypatch.setattr("process.ports._given", deque[int](maxlen=256))
    found = iter([1_051, 1_691, 1_691, 1_051, 1_692])

    def says(_probe: socket.socket) -> tuple[str, int]:
        return LOOPBACK, next(found)

    monkeypatch.setattr(socket.socket, "getsockname", says)
    assert [free_port(), claim_port(0, "--kafka-port"), free_port()] == [1_051, 1_691, 1_692]


def test_free_port_avoids_range_of_connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "ip_local_port_range"
    told.write_text("24000\t60999\n")
    monkeypatch.setattr("process.ports._RANGE_OF_CONNECTIONS", told)
    assert all(20_000 <= free_port() < 24_000 for _ in range(50))


@pytest.mark.parametrize("said", ["1024 65535", "", "no numbers"])
def test_free_port_is_chosen_by_kernel_without_range(
    said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "ip_local_port_range"
    told.write_text(said)
    monkeypatch.setattr("process.ports._RANGE_OF_CONNECTIONS", told)
    asked, bind = set[int](), socket.socket.bind

    def record(probe: socket.socket, address: tuple[str, int]) -> None:
        asked.add(address[1])
        bind(probe, address)

    monkeypatch.setattr(socket.socket, "bind", record)
    assert free_port() > 0
    assert asked == {0}, "the kernel chooses if asked for port 0"


def test_claim_port_accepts_free_port() -> None:
    port = free_port()
    assert claim_port(port, "--kafka-port") == port


def test_ports_support_ipv6_addresses() -> None:
    port = claim_port(0, "--gateway-port", "::1")
    with socket.create_server(("::1", port), family=socket.AF_INET6), pytest.raises(OperatorError, match="is in use"):
        claim_port(port, "--gateway-port", "::1")
    assert address_text("::1", port) == f"[::1]:{port}"
    assert address_text(LOOPBACK, port) == f"{LOOPBACK}:{port}"
