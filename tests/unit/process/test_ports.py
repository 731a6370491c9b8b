"""A port that was found free is not found again while nobody listens on it yet."""

import socket
from collections import deque

import pytest

from process.ports import LOOPBACK, claim_port, free_port


def test_the_same_port_is_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel says to be free was given to another part a moment ago, and nobody listens there yet."""
    monkeypatch.setattr("process.ports._given", deque[int](maxlen=256))
    found = iter([1_051, 1_691, 1_691, 1_051, 1_692])

    def says(_probe: socket.socket) -> tuple[str, int]:
        return LOOPBACK, next(found)

    monkeypatch.setattr(socket.socket, "getsockname", says)
    assert [free_port(), claim_port(0, "--kafka-port"), free_port()] == [1_051, 1_691, 1_692]


def test_a_port_that_is_given_can_be_listened_on() -> None:
    port = free_port()
    assert claim_port(port, "--kafka-port") == port
