"""Tests of many, oversized, slow or incomplete request bodies: memory is bounded, other clients are answered."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import psutil
import pytest

from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import Running
from tests.integration.gateway.test_inference import json_body
from tests.load import Pace

MIB = 1 << 20
UPLOADS = 60
LARGE = 7 * MIB
BUDGET = 32 * MIB
RECEIVE_S = 1.0
"""Seconds that a request may take to arrive."""


class Raw(NamedTuple):
    """HTTP connection that sends and reads bytes without a library."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def status(self) -> int:
        return int((await self.reader.readline()).split()[1])

    async def rest(self) -> bytes:
        """Return all bytes until the server closes the connection."""
        return await self.reader.read()


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0, max_body_bytes=8 * MIB, max_bodies_bytes=BUDGET, receive_timeout_s=RECEIVE_S)


@asynccontextmanager
async def connections(gateway: Running, heads: Iterable[bytes]) -> AsyncGenerator[list[Raw]]:
    """Open a connection for each of these beginnings of a request."""
    opened: list[Raw] = []
    try:
        for head in heads:
            opened.append(Raw(*await asyncio.open_connection(*address(gateway))))
            opened[-1].writer.write(head)
        yield opened
    finally:
        for raw in opened:
            raw.writer.transport.abort()


def address(gateway: Running) -> tuple[str, int]:
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def upload(gateway: Running, size: int) -> bytes:
    return f"POST /v2/models/{gateway.task}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()


async def heard(raw: Raw) -> int | None:
    """Return the status, or None if the gateway closed the connection while the client was still sending."""
    try:
        return await raw.status()
    except ConnectionError:
        return None


async def test_unfinished_bodies_use_bounded_memory(gateway: Running) -> None:
    process, piece = psutil.Process(), bytes(MIB // 4)
    async with (
        connections(gateway, [upload(gateway, LARGE + 1)] * UPLOADS) as uploads,
        asyncio.timeout(100),
        asyncio.TaskGroup() as tasks,
    ):
        before = process.memory_info().rss
        answers = [tasks.create_task(heard(raw)) for raw in uploads]
        for _ in range(LARGE // len(piece)):
            for raw, answer in zip(uploads, answers, strict=True):
                if not answer.done():
                    raw.writer.write(piece)
            await asyncio.gather(*(raw.writer.drain() for raw in uploads), return_exceptions=True)
            async with gateway.http.post(gateway.infer_url, data=json_body()) as response:
                assert response.status == 200
        assert process.memory_info().rss - before < 3 * BUDGET
        statuses = {await answer for answer in answers}
    assert statuses - {None} == {408, 503}  # the byte budget refuses most; the others time out
    async with gateway.http.post(gateway.infer_url, data=json_body()) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "head", [b"POST /v2", b"GET /v2 HTTP/1.1\r\nHost: x\r\n", b"POST /v2 HTTP/1.1\r\nContent-Length: 9\r\nA: b"]
)
async def test_unfinished_head_times_out(gateway: Running, head: bytes) -> None:
    async with connections(gateway, [head]) as (raw,), asyncio.timeout(60):
        assert await raw.status() == 408
        assert b'"error"' in await raw.rest()


async def test_slow_body_times_out(gateway: Running) -> None:
    """The client sends on after the gateway has closed, so the connection may be reset before the answer is read.

    A stream of asyncio fails at the reset, with the answer unread. The kernel keeps the bytes that came before it.
    """
    loop = asyncio.get_running_loop()

    async def drip(connection: socket.socket) -> None:
        with suppress(ConnectionError):
            async for _ in Pace(5):
                await loop.sock_sendall(connection, b"{")

    async def received(connection: socket.socket) -> bytes:
        found = b""
        with suppress(ConnectionError):
            while piece := await loop.sock_recv(connection, MIB):
                found += piece
        return found

    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, address(gateway))
        await loop.sock_sendall(connection, upload(gateway, 1000))
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip(connection))
            answer = await received(connection)
            dripping.cancel()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"within 1 s" in answer


async def test_oversized_body_is_refused_before_it_is_sent(gateway: Running) -> None:
    async with connections(gateway, [upload(gateway, 9 * MIB)]) as (raw,), asyncio.timeout(60):
        assert await raw.status() == 413
        raw.writer.write_eof()
        assert b"exceeds the limit" in await raw.rest()


@pytest.mark.parametrize(
    "name",
    [
        *("infaas-id", "traceparent", "tracestate", "infaas-tenant", "infaas-target", "infaas-deadline-ms"),
        *("infaas-latency-ms", "infaas-mode", "infaas-reply-to", "Content-Type", "Inference-Header-Content-Length"),
        *("infaas-\xff", "Content-Encoding", "infaas-latncy-ms"),
    ],
)
async def test_invalid_header_bytes_are_client_error(gateway: Running, name: str) -> None:
    body = json_body()
    odd = f"{name}: ".encode("latin-1") + b"\xff\xfe\xed\xa0\x80"
    head = upload(gateway, len(body)).replace(b"Host: x", b"Host: x\r\nConnection: close\r\n" + odd)
    async with connections(gateway, [head + body]) as (raw,), asyncio.timeout(60):
        status, answer = await raw.status(), await raw.rest()
    assert status == 200 or (400 <= status < 500 and b'{"error":"' in answer), answer


async def test_idle_connection_stays_open(gateway: Running) -> None:
    quick = json_body()
    async with connections(gateway, [b""]) as (raw,), asyncio.timeout(60):
        for _ in range(2):
            await asyncio.sleep(RECEIVE_S * 1.5)  # an idle connection has no receive timeout
            raw.writer.write(upload(gateway, len(quick)) + quick)
            assert await raw.status() == 200
            await raw.reader.readuntil(b"]}")
