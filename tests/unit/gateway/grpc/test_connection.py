"""Tests of the time limits of a gRPC connection, whose clock is passed to it."""

import asyncio
import struct
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from gateway.grpc.call import Call
from gateway.grpc.connection import ConnectionTimes, GrpcConnection
from tests.unit.gateway.grpc.test_http2 import BLOCK, GOAWAY, HEADERS, PING, begun, frame

TIMES = ConnectionTimes(begin_s=10.0, silence_s=60.0, idle_s=300.0, age_s=3600.0, grace_s=600.0)
BLOCK_OF_CALL = BLOCK + b"\x00\x0ccontent-type\x10application/grpc"
CALL = frame(HEADERS, 0x4, 1, BLOCK_OF_CALL)
ALIVE, CLOSING = b"is alive", b"is going"


class Wire(asyncio.Transport):
    """Transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.state = "open"

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def is_closing(self) -> bool:
        return self.state != "open"


class Opened:
    """Connection with its transport, and the calls that it has begun."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.now_s = asyncio.get_running_loop().time()
        self.connection = GrpcConnection(self._serve, self._start, lambda _: True, lambda _: None, TIMES, 1000)
        self.wire = Wire()
        self.connection.connection_made(self.wire)

    async def _serve(self, call: Call) -> None:
        self.calls.append(call)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        with pytest.raises(StopIteration):
            work.send(None)
        return cast("asyncio.Task[None]", asyncio.get_running_loop().create_future())

    async def answer_announcement(self) -> None:
        """Answer the ping behind the announcement of the end, after which the last one comes."""
        last = struct.pack(">I", 2**31 - 1)
        assert frame(GOAWAY, 0, 0, last + bytes(4)) + frame(PING, 0, 0, CLOSING) in self.wire.sent
        self.connection.data_received(frame(PING, 0x1, 0, CLOSING))
        assert frame(GOAWAY, 0, 0, struct.pack(">I", len(self.calls)) + bytes(4)) in self.wire.sent
        await self.flushed()

    async def flushed(self) -> None:
        """Let callbacks run that send and close."""
        for _ in range(3):
            await asyncio.sleep(0)

    def after(self, seconds: float) -> str:
        """Look at the connection after `seconds`; return the state of its transport."""
        self.connection.look(self.now_s + seconds)
        return self.wire.state


@pytest.mark.parametrize("sent", [0, 5, 24])
async def test_connection_that_does_not_begin_is_aborted(sent: int) -> None:
    opened = Opened()
    opened.connection.data_received(begun()[:sent])
    assert (opened.after(9), opened.after(11)) == ("open", "aborted")


async def test_silent_client_is_pinged_and_then_aborted() -> None:
    opened = Opened()
    opened.connection.data_received(begun() + CALL)
    assert opened.after(59) == "open"
    assert frame(PING, 0, 0, ALIVE) not in opened.wire.sent
    assert opened.after(62) == "open"
    assert frame(PING, 0, 0, ALIVE) in opened.wire.sent
    assert opened.after(71) == "open"
    assert opened.after(73) == "aborted"


async def test_answered_ping_keeps_connection() -> None:
    opened = Opened()
    opened.connection.data_received(begun() + CALL)
    opened.after(62)
    opened.connection.data_received(frame(PING, 0x1, 0, ALIVE))
    assert opened.after(100) == "open"


async def test_idle_connection_is_closed() -> None:
    opened = Opened()
    opened.connection.data_received(begun())
    assert opened.after(299) == "open"
    opened.connection.data_received(frame(PING, 0x1, 0, ALIVE))
    opened.after(301)
    await opened.answer_announcement()
    assert opened.wire.state == "closed"


async def test_old_connection_ends_after_its_last_call() -> None:
    opened = Opened()
    opened.connection.data_received(begun() + CALL)
    assert opened.after(3601) == "open"
    await opened.answer_announcement()
    opened.connection.data_received(frame(HEADERS, 0x4, 3, BLOCK_OF_CALL))
    assert len(opened.calls) == 1, "no new call"
    opened.calls[0].finish(b"")
    await opened.flushed()
    assert opened.wire.state == "closed"


async def test_call_that_crosses_the_announcement_is_served() -> None:
    opened = Opened()
    opened.connection.data_received(begun())
    opened.connection.stop()
    assert opened.wire.state == "open"
    opened.connection.data_received(CALL)
    await opened.answer_announcement()
    assert opened.wire.state == "open"
    opened.calls[0].finish(b"x" * 100)
    await opened.flushed()
    assert b"x" * 100 in opened.wire.sent
    assert opened.wire.state == "closed"


async def test_connection_is_aborted_if_announcement_is_not_answered() -> None:
    opened = Opened()
    opened.connection.data_received(begun())
    opened.connection.stop()
    assert opened.after(9) == "open"
    assert opened.after(11) == "aborted"


async def test_old_connection_is_aborted_after_grace() -> None:
    opened = Opened()
    opened.connection.data_received(begun() + CALL)
    opened.after(3601)
    await opened.answer_announcement()
    assert opened.after(599) == "open"
    assert opened.after(601) == "aborted"


async def test_client_that_does_not_read_is_not_read() -> None:
    opened = Opened()
    paused: list[bool] = []
    opened.wire.pause_reading = lambda: paused.append(True)
    opened.wire.resume_reading = lambda: paused.append(False)
    opened.connection.data_received(begun() + CALL)
    opened.connection.pause_writing()
    before = len(opened.wire.sent)
    opened.calls[0].finish(b"x" * 100)
    await asyncio.sleep(0)
    assert b"x" * 100 not in opened.wire.sent[before:]
    opened.connection.resume_writing()
    await asyncio.sleep(0)
    assert b"x" * 100 in opened.wire.sent[before:]
    assert paused == [True, False]


async def test_client_that_breaks_the_protocol_is_told() -> None:
    opened = Opened()
    opened.connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert b"the connection does not begin as HTTP/2" in opened.wire.sent
    assert opened.wire.state == "closed"
