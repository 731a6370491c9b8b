"""Test of every socket of a system: each is contacted without credentials, and its answer is compared.

The kernel lists the sockets. A new socket, or one that listens elsewhere, fails the test until the table of
`docs/security.md` has it; `DOORS=write pytest ...` writes the table again.
"""

import asyncio
import os
import re
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc.aio
import psutil
import pytest

from tests.processes import name_of
from tests.system.infaas.conftest import Cli

pytestmark = pytest.mark.needs_minutes

PAGE: Final = Path(__file__).parents[3] / "docs" / "security.md"
BEGIN, END = "<!-- ports:begin -->", "<!-- ports:end -->"
LOOPBACK: Final = "127.0.0.1"
_PATIENCE_S: Final = 20.0

HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS: Final = 4
HTTP: Final = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_STARTUP: Final = struct.pack(">I", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
POSTGRES: Final = struct.pack(">I", 4 + len(_STARTUP)) + _STARTUP
PASSWORD: Final = b"R", 10
"""Kind of Postgres' answer that requests authentication, and the code of the method."""
_CORRELATION: Final = 4242
_METADATA: Final = struct.pack(">hhihi", 3, 1, _CORRELATION, -1, -1)
"""Request for the metadata of all topics, without authentication."""
KAFKA: Final = struct.pack(">I", len(_METADATA)) + _METADATA


class Listener(NamedTuple):
    """A listening socket."""

    process: str
    host: str
    port: int

    @property
    def at(self) -> str:
        return "this machine" if self.host.removeprefix("::ffff:") == LOOPBACK else "every address"


async def test_ports_answer_strangers_as_documented(guarded: Cli) -> None:
    state = await guarded.state()
    parent = psutil.Process(state["pid"])
    named = {service["pid"]: re.split("-", name)[0] for name, service in state["services"].items()}
    processes = {one: owner(one, named) for one in (parent, *parent.children(recursive=True))}
    told = await asyncio.gather(*map(row, listeners(processes)))
    files = list(file_rows(processes, guarded.home))
    table = "\n".join(
        [
            "| process | listens at | another machine gets | this machine gets |",
            "|---|---|---|---|",
            *sorted({*told, *files}),
        ]
    )
    page = PAGE.read_text()
    begun, _, rest = page.partition(BEGIN)
    written, _, after = rest.partition(END)
    if os.environ.get("DOORS") == "write":
        PAGE.write_text(f"{begun}{BEGIN}\n{table}\n{END}{after}")
    else:
        assert table == written.strip()


def owner(process: psutil.Process, services: dict[int, str]) -> str:
    """Return the role of a process in the system."""
    named = {"java": "Kafka", "postgres": "Postgres"}
    return services.get(process.pid) or named.get(name_of(process), "`infaas up`")


def listeners(processes: dict[psutil.Process, str]) -> list[Listener]:
    """Return all network sockets that accept connections or datagrams."""
    found = [(name, one) for process, name in processes.items() for one in sockets(process, "inet")]
    waiting = [(name, one) for name, one in found if one.status == psutil.CONN_LISTEN or one.type == socket.SOCK_DGRAM]
    return [Listener(name, one.laddr.ip, one.laddr.port) for name, one in waiting]


def sockets(process: psutil.Process, kind: str) -> list[Any]:
    """Return all sockets of a process; none if the process has ended."""
    try:
        return process.net_connections(kind)
    except psutil.NoSuchProcess:
        return []


async def row(listener: Listener) -> str:
    """Return the table row of a socket: its answers to another machine and to this one."""
    there, here = [await told(host, listener) for host in (own_address(), LOOPBACK)]
    return f"| {listener.process} | {listener.at} | {there} | {here} |"


def own_address() -> str:
    """Return this machine's address for others; if it has none, one that only `every address` includes."""
    addresses = [one.address for of in psutil.net_if_addrs().values() for one in of if one.family == socket.AF_INET]
    return next((address for address in addresses if not address.startswith("127.")), "127.0.0.2")


async def told(host: str, listener: Listener) -> str:
    """Return a port's answer to a client without credentials, in the port's protocol."""
    port = listener.port
    answer = await said(host, port, HTTP2)
    if answer is None:
        return "not reached"
    if answer.startswith(b"HTTP/1."):
        paths = (b"/v2", b"/metrics", b"/health/live")
        statuses = [(await said(host, port, HTTP % path) or b"").split(b" ", 2)[1].decode() for path in paths]
        return "HTTP: " + ", ".join(f"`{path.decode()}` {status}" for path, status in zip(paths, statuses, strict=True))
    if answer[3:4] == bytes((SETTINGS,)):
        return f"gRPC: {await grpc_status(host, port)}"
    answer = await said(host, port, KAFKA) or b""
    if answer[4:8] == struct.pack(">i", _CORRELATION):
        return "Kafka: lets in"
    # Kafka would say nothing to a client of Postgres for long.
    answer = await said(host, port, POSTGRES) or b"" if listener.process == "Postgres" else b""
    if len(answer) <= 8:
        return "hangs up"
    asks = (answer[:1], struct.unpack(">I", answer[5:9])[0]) == PASSWORD
    return "Postgres: asks for a password" if asks else f"Postgres: {answer!r}"


async def said(host: str, port: int, words: bytes) -> bytes | None:
    """Return the answer to the first bytes of a connection; None if the connection is refused."""
    try:
        async with asyncio.timeout(2 * _PATIENCE_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(words)
                return await asyncio.wait_for(reader.read(4096), _PATIENCE_S)
            except (ConnectionError, TimeoutError):
                return b""
            finally:
                writer.close()
    except ConnectionRefusedError:
        return None


async def grpc_status(host: str, port: int) -> str:
    """Return the status codes of an open method and of a query."""
    codes: list[str] = []
    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        for method in ("ServerReady", "ModelInfer"):
            call: Any = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(b"", timeout=_PATIENCE_S)
            codes.append(f"`{method}` {(await call.code()).name}")
    return ", ".join(codes)


def file_rows(processes: dict[psutil.Process, str], home: Path) -> Iterable[str]:
    """Yield the rows of Unix sockets: files with their modes, and abstract names."""
    for process, name in processes.items():
        for one in sockets(process, "unix"):
            path = str(one.laddr)
            if path.startswith("@"):
                yield f"| {name} | `{re.sub('[0-9]+', 'N', path)}` | not reached | a name, not read |"
            elif path:
                mode = (home / Path(path).name).stat().st_mode & 0o777
                yield f"| {name} | `{Path(path).name}` in its home | not reached | a file of its owner's ({mode:o}) |"
