"""Tests of HTTP connections by a client without a library: pipelining, partial requests, limits."""

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import psutil
import pytest

from gateway.settings import GatewaySettings
from schemas import headers as h
from tests.integration.gateway.conftest import Running
from tests.integration.gateway.responder import doubled
from tests.integration.gateway.test_inference import json_body
from tests.waiting import PATIENCE_S, until

MIB = 1 << 20
MOST = 3
"""Maximum number of connections of the gateway."""


class Client:
    """HTTP connection that sends and reads bytes without a library."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next response."""
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers.pop("content-length", 0)))
        return int(first.split()[1]), headers, body

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(request)
        return await self.answer()


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0, max_body_bytes=64 * 1024, receive_timeout_s=2.0, max_connections=MOST)


@asynccontextmanager
async def connected(gateway: Running) -> AsyncGenerator[Client]:
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    client = Client(*await asyncio.open_connection(host, int(port)))
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield client
    finally:
        client.writer.transport.abort()


def plain(gateway: Running, *fields: str, body: bytes = b"", name: str = "") -> bytes:
    """Return a query as most clients send it, which the gateway's own parser handles."""
    body = body or json_body()
    path = f"/v2/models/{name or gateway.task}/infer"
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*head, "", ""]).encode() + body


def chunked(gateway: Running, *fields: str, body: bytes = b"", name: str = "") -> bytes:
    """Return the same query in chunks, which aiohttp handles."""
    body = body or json_body()
    head = plain(gateway, *fields, name=name).partition(b"\r\n\r\n")[0]
    head = re.sub(rb"\r\nContent-Length: \d+", b"\r\nTransfer-Encoding: chunked", head)
    return head + b"\r\n\r\n" + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


ABOUT = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("fields", "body", "status"),
    [
        ((), b"", 200),
        (("infaas-id: mine", "Inference-Header-Content-Length: 0"), bytes(32), 200),
        ((), b"no JSON", 400),
        (("infaas-latncy-ms: 5",), b"", 400),
        (("infaas-target: other",), b"", 200),
        ((), b"x" * (64 * 1024 + 1), 413),
    ],
    ids=["JSON", "raw", "no JSON", "misspelt", "target", "too large"],
)
async def test_own_and_aiohttp_parsers_answer_alike(
    gateway: Running, fields: tuple[str, ...], body: bytes, status: int
) -> None:
    found: list[tuple[int, dict[str, str], bytes]] = []
    for request in (plain(gateway, *fields, body=body), chunked(gateway, *fields, body=body)):
        async with connected(gateway) as client:
            found.append(await client.ask(request))
    for _status, headers, _body in found:
        for own in (
            "date",
            "server",
            "transfer-encoding",
            "connection",
            *(() if "infaas-id: mine" in fields else ("infaas-id",)),
        ):
            headers.pop(own, None)
    assert found[0] == found[1]
    assert found[0][0] == status


async def test_connection_mixes_kinds_of_requests(gateway: Running) -> None:
    async with connected(gateway) as client:
        for request, status in (
            (plain(gateway), 200),
            (plain(gateway, body=b"{}"), 400),
            (plain(gateway), 200),
            (ABOUT, 200),
            (plain(gateway), 200),
            (chunked(gateway), 200),
            (plain(gateway, name="unknown"), 404),
            (plain(gateway), 200),
        ):
            assert (await client.ask(request))[0] == status, request


async def test_pipelined_requests_are_answered_in_order(gateway: Running) -> None:
    requests = [plain(gateway, f"infaas-id: {number}") for number in range(30)]
    requests[3] = plain(gateway, body=b"{}")
    requests[20] = ABOUT
    async with connected(gateway) as client:
        client.writer.write(b"".join(requests))
        answers = [await client.answer() for _ in requests]
    assert [status for status, _, _ in answers] == [200] * 3 + [400] + [200] * 26
    ids = [headers.get(h.ID) for _, headers, _ in answers]
    assert ids == [None if number in (3, 20) else str(number) for number in range(30)]


async def test_request_may_arrive_in_pieces(gateway: Running) -> None:
    request = plain(gateway, "infaas-id: pieces")
    async with connected(gateway) as client:
        for piece in (request[:7], request[7:90], request[90:-30], request[-30:-1], request[-1:]):
            client.writer.write(piece)
            await asyncio.sleep(0.01)  # lets the pieces arrive separately; the test also holds if they do not
        status, headers, _ = await client.answer()
        assert (status, headers[h.ID]) == (200, "pieces")
        assert (await client.ask(plain(gateway)))[0] == 200


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_connection_close_is_honoured(gateway: Running, body: bytes) -> None:
    async with connected(gateway) as client:
        status, headers, _ = await client.ask(plain(gateway, "Connection: close", body=body))
        assert (status, headers["connection"]) == (400 if body else 200, "close")
        assert await client.reader.read() == b""


async def test_http_1_0_client_is_answered(gateway: Running) -> None:
    async with connected(gateway) as client:
        assert (await client.ask(plain(gateway).replace(b"HTTP/1.1", b"HTTP/1.0")))[0] == 200
        assert await client.reader.read() == b""


async def test_expect_100_continue_is_answered(gateway: Running) -> None:
    head, _, body = plain(gateway, "Expect: 100-continue").partition(b"\r\n\r\n")
    async with connected(gateway) as client:
        assert (await client.ask(head + b"\r\n\r\n"))[0] == 100
        assert (await client.ask(body))[0] == 200


async def test_result_headers_cannot_inject_lines(gateway: Running, caplog: pytest.LogCaptureFixture) -> None:
    def crooked(fields: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
        result, headers = doubled(fields, value)
        return result, headers | {h.WORKER: "cpu-0\r\nset-cookie: stolen"}

    gateway.responder.answer = crooked
    async with connected(gateway) as client:
        status, headers, body = await client.ask(plain(gateway))
        assert (status, body) == (500, b'{"error":"internal error"}')
        assert "set-cookie" not in headers
        gateway.responder.answer = doubled
        assert (await client.ask(plain(gateway)))[0] == 200
    assert "contains a line break" in caplog.text


@pytest.mark.parametrize("asked", [plain, chunked])
async def test_client_that_reads_nothing_is_disconnected(gateway: Running, asked: Callable[[Running], bytes]) -> None:
    def huge(fields: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
        return bytes(8 * MIB), doubled(fields, value)[1]

    gateway.responder.answer = huge
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(asked(gateway) * 3)
        async with asyncio.timeout(PATIENCE_S):
            await gateway.responder.wait_seen(1)
        await until(lambda: not served(client.getsockname()[1]))  # the client reads nothing and cannot see the close


async def test_connection_limit_refuses_until_one_closes(gateway: Running) -> None:
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(connected(gateway)) for _ in range(MOST)]
        for client in held:
            assert (await client.ask(plain(gateway)))[0] == 200
        async with connected(gateway) as refused:
            status, headers, body = await refused.answer()
            assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
            assert (headers["infaas-reason"], b"3 connections" in body) == ("connection_limit", True)
            assert await refused.reader.read() == b""
        held[0].writer.transport.abort()
        await until(lambda: is_served(gateway))  # the gateway learns of a closed connection with a delay
        assert (await held[1].ask(plain(gateway)))[0] == 200


async def is_served(gateway: Running) -> bool:
    async with connected(gateway) as client:
        try:
            return (await client.ask(plain(gateway)))[0] == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


def served(port: int) -> bool:
    """Return true if this process, in which the gateway runs, has a connection to that client port."""
    return any(one.raddr and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))
