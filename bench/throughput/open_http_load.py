"""An open-loop HTTP load that costs little: one body, sent over and over by as few connections as it needs.

`python -m bench.throughput.open_http_load HOST PORT PATH RATE SECONDS < REQUEST_BODY` runs it, with request headers in
the environment's `LOAD_HEADERS`; it prints a `LoadReport` in JSON. No HTTP library: the client shares the cores with
what it measures. Queries leave at a fixed rate, however late the answers are; when all connections wait for an answer,
the next query waits with them, and that counts.
"""

import argparse
import asyncio
import os
import sys
from collections import deque
from typing import Final

import msgspec

from bench.core.figures import percentile

CONNECTIONS: Final = 256
_LAST_ANSWERS_S: Final = 60.0
_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class LoadReport(msgspec.Struct, frozen=True):
    """How the queries of a load ended."""

    asked: int
    answered: int
    """Those answered with 200."""
    p50_ms: float
    """Time from when a query was due to its answer; of all, answered or refused."""
    p99_ms: float
    seconds: float
    """From the first query to the last answer."""


class OpenHttpLoad:
    """Load of one request on one server, within one event loop."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._host = host
        self._port = port
        self._request = request
        self._idle: list[_Connection] = []
        self._waiting: deque[float] = deque()
        self._opened = 0
        self._expected = 0
        self._answered = 0
        self._times_ms: list[float] = []
        self._done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._opening = asyncio.TaskGroup()

    async def run(self, rate: float, seconds: float) -> LoadReport:
        """Ask `rate` queries a second.

        Raises:
            TimeoutError: the last are not answered.
        """
        self._expected = round(rate * seconds)
        async with self._opening:
            start = self._loop.time()
            for number in range(self._expected):
                due = start + number / rate
                if (delay := due - self._loop.time()) > 0:
                    await asyncio.sleep(delay)
                self._ask(due)
            async with asyncio.timeout(_LAST_ANSWERS_S):
                await self._done.wait()
        took_s = self._loop.time() - start
        for connection in self._idle:  # which all are now
            connection.close()
        p50, p99 = (percentile(self._times_ms, share) for share in (0.5, 0.99))
        return LoadReport(self._expected, self._answered, p50, p99, took_s)

    def _ask(self, due: float) -> None:
        if self._idle:
            self._idle.pop().ask(self._request, due)
            return
        self._waiting.append(due)
        if self._opened < CONNECTIONS:
            self._opened += 1
            self._opening.create_task(self._open(), name="connect")

    async def _open(self) -> None:
        await self._loop.create_connection(lambda: _Connection(self), self._host, self._port)

    def is_free(self, connection: "_Connection") -> None:
        """Ask the next query that waits over a connection that has none."""
        if self._waiting:
            connection.ask(self._request, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def answered(self, due: float, *, ok: bool) -> None:
        """Count an answer."""
        self._times_ms.append((self._loop.time() - due) * 1e3)
        self._answered += ok
        if len(self._times_ms) == self._expected:
            self._done.set()


class _Connection(asyncio.Protocol):
    """A connection on which one query is asked at a time."""

    def __init__(self, load: OpenHttpLoad) -> None:
        self._load = load
        self._due = 0.0
        self._received = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._load.is_free(self)

    def ask(self, request: bytes, due: float) -> None:
        """Ask a query that was due then."""
        self._due = due
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(_END_OF_HEAD)
        if not end or len(body) < _body_bytes(head):
            return
        self._received = b""
        self._load.answered(self._due, ok=head.split(b" ", 2)[1] == b"200")
        self._load.is_free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._received:
            raise ConnectionError("the server cut an answer off") from exc


def _body_bytes(head: bytes) -> int:
    """Bytes that the head of an answer announces.

    Raises:
        ValueError: it announces none.
    """
    for line in head.lower().split(b"\r\n"):
        if line.startswith(_LENGTH):
            return int(line[len(_LENGTH) :])
    raise ValueError(f"an answer without a length: {head!r}")


def request_bytes(host: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Encode a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    return "\r\n".join(lines).encode() + _END_OF_HEAD + body


def main() -> None:
    """Parse the command line, run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    wanted = parser.parse_args()
    headers = msgspec.json.decode(os.environ.get("LOAD_HEADERS", "{}"), type=dict[str, str])
    request = request_bytes(wanted.host, wanted.path, headers, sys.stdin.buffer.read())

    async def run() -> LoadReport:
        return await OpenHttpLoad(wanted.host, wanted.port, request).run(wanted.rate, wanted.seconds)

    print(msgspec.json.encode(asyncio.run(run())).decode())


if __name__ == "__main__":
    main()
