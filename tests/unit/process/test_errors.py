"""Tests of `why_not_connected`: errors name the wrong part of an address."""

import asyncio
import socket

import pytest

from process.errors import why_not_connected


def said(error: OSError) -> str:
    return why_not_connected("kafka.example", 9092, error)


def test_why_not_connected_tells_unknown_host_from_no_dns() -> None:
    assert said(socket.gaierror(socket.EAI_NONAME, "?")) == "unknown host 'kafka.example': check its spelling"
    assert "no DNS server answers" in said(socket.gaierror(socket.EAI_AGAIN, "?"))


async def test_why_not_connected_reports_port_without_listener() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, and not listened on
        port = bound.getsockname()[1]
        with pytest.raises(ConnectionRefusedError) as refused:
            await asyncio.open_connection("127.0.0.1", port)
    expected = "nobody listens at kafka.example:9092"
    assert said(refused.value) == expected
    assert said(OSError(f"Multiple exceptions: {refused.value}, {refused.value}")) == expected


def test_why_not_connected_keeps_other_system_errors() -> None:
    assert said(TimeoutError()) == "kafka.example:9092 does not answer"
    assert said(OSError(113, "No route to host")) == "kafka.example:9092: [Errno 113] No route to host"
