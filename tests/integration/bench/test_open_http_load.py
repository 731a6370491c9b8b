"""The client of the cost bench: every query is asked over real sockets, once, and its end is counted."""

import asyncio

from bench.throughput.open_http_load import CONNECTIONS, LoadReport, OpenHttpLoad, request_bytes
from process.ports import LOOPBACK


class CountingServer:
    """Server that answers every second query with 503, and takes each connection's queries one by one."""

    def __init__(self, held: int = 0) -> None:
        self.asked = 0
        self.connections = 0
        self._held = held
        self._all_here = asyncio.Event()
        self._open = 0
        self.left = asyncio.Event()
        """Set while no connection is open."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open += 1
        self.left.clear()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(4) == b"body"
                assert b"\r\nX-Kind: test" in head
                self.asked += 1
                if self.asked >= self._held:
                    self._all_here.set()
                await self._all_here.wait()
                status = b"200 OK" if self.asked % 2 else b"503 Busy"
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: 5\r\n\r\nan" % status)
                await writer.drain()
                writer.write(b"swe")
        except asyncio.IncompleteReadError:
            writer.close()
        finally:
            self._open -= 1
            if not self._open:
                self.left.set()


async def _load(server: CountingServer, rate: float, seconds: float) -> LoadReport:
    listening = await asyncio.start_server(server.serve, LOOPBACK)
    async with listening:
        port: int = listening.sockets[0].getsockname()[1]
        request = request_bytes(LOOPBACK, "/infer", {"X-Kind": "test"}, b"body")
        async with asyncio.timeout(30):
            report = await OpenHttpLoad(LOOPBACK, port, request).run(rate, seconds)
            await server.left.wait()
    return report


async def test_all_queries_are_asked_and_those_not_answered_with_200_are_told_apart() -> None:
    server = CountingServer()
    report = await _load(server, 2000.0, 0.1)
    assert report.asked == server.asked == 200
    assert report.answered == 100
    assert 0 <= report.p50_ms <= report.p99_ms


async def test_queries_wait_where_all_connections_do() -> None:
    """The load leaves at its rate: a server that answers nothing gets as many as there are connections, no more."""
    server = CountingServer(held=CONNECTIONS)
    report = await _load(server, 10_000.0, 0.1)
    assert report.asked == server.asked == 1000
    assert server.connections <= CONNECTIONS
