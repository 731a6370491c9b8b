"""A stranger on the network: every socket of all processes of a system, tried by hand, and what each told.

Which sockets there are is the kernel's word: one that is new, or listens elsewhere than before, fails the test until it
stands in the table of `docs/security.md`, which `DOORS=write pytest ...` writes anew.
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

from tests.processes import begun_with, name_of
from tests.system.infaas.conftest import Cli

pytestmark = pytest.mark.timeout(400)
PAGE: Final = Path(__file__).parents[3] / "docs" / "security.md"
BEGIN, END = "<!-- ports:begin -->", "<!-- ports:end -->"
LOOPBACK: Final = "127.0.0.1"
OWN_PORTS: Final = """
from infaas.supervisor import metrics_ports
from process.ports import free_port
metrics_ports.FIRST = {service: free_port() for service in metrics_ports.FIRST}
"""
"""Of metrics: another system on this machine may have the usual ones, and hold their names."""
_PATIENCE_S: Final = 20.0

HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS: Final = 4
HTTP: Final = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_STARTUP: Final = struct.pack(">I", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
POSTGRES: Final = struct.pack(">I", 4 + len(_STARTUP)) + _STARTUP
PASSWORD: Final = b"R", 10
"""Kind of Postgres' answer that asks for a proof, and of which."""
_CORRELATION: Final = 4242
_METADATA: Final = struct.pack(">hhihi", 3, 1, _CORRELATION, -1, -1)
"""All topics are asked for, by nobody."""
KAFKA: Final = struct.pack(">I", len(_METADATA)) + _METADATA


class Listener(NamedTuple):
    """A socket that waits for somebody."""

    process: str
    host: str
    port: int

    @property
    def at(self) -> str:
        return "this machine" if self.host.removeprefix("::ffff:") == LOOPBACK else "every address"


async def test_a_stranger_is_told_at_every_port_what_is_written_down(cli: Cli, tmp_path: Path) -> None:
    python = begun_with(OWN_PORTS, tmp_path)
    services = ("--jobs=1", "--registrars=1")
    async with cli.up("--gateway-host=0.0.0.0", "--grpc-port=0", "--auth", *services, **python) as supervisor:
        state = await cli.json("status", "--wait")
        parent = psutil.Process(supervisor.pid)
        named = {service["pid"]: re.split("-", name)[0] for name, service in state["services"].items()}
        processes = {one: owner(one, named) for one in (parent, *parent.children(recursive=True))}
        found = listeners(processes)
        told = await asyncio.gather(*map(row, found))
        files = list(file_rows(processes, cli.home))
    table = "\n".join(
        [
            "| process | listens at | another machine is told | this machine is told |",
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
    """What a process is of the system."""
    named = {"java": "Kafka", "postgres": "Postgres"}
    return services.get(process.pid) or named.get(name_of(process), "`infaas up`")


def listeners(processes: dict[psutil.Process, str]) -> list[Listener]:
    """All sockets of the network that take connections, or datagrams."""
    found = [(name, one) for process, name in processes.items() for one in sockets(process, "inet")]
    waiting = [(name, one) for name, one in found if one.status == psutil.CONN_LISTEN or one.type == socket.SOCK_DGRAM]
    return [Listener(name, one.laddr.ip, one.laddr.port) for name, one in waiting]


def sockets(process: psutil.Process, kind: str) -> list[Any]:
    """All sockets of a process; none of one that has ended."""
    try:
        return process.net_connections(kind)
    except psutil.NoSuchProcess:
        return []


async def row(listener: Listener) -> str:
    """What a stranger is told, from the network and from this machine."""
    there, here = await told(own_address(), listener.port), await told(LOOPBACK, listener.port)
    return f"| {listener.process} | {listener.at} | {there} | {here} |"


def own_address() -> str:
    """An address of this machine that others reach it by; where it has none, one that only `every address` has, too."""
    addresses = [one.address for of in psutil.net_if_addrs().values() for one in of if one.family == socket.AF_INET]
    return next((address for address in addresses if not address.startswith("127.")), "127.0.0.2")


async def told(host: str, port: int) -> str:
    """What a port tells a stranger, in whatever it speaks."""
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
    answer = await said(host, port, POSTGRES) or b""
    if len(answer) <= 8:
        return "hangs up"
    asks = (answer[:1], struct.unpack(">I", answer[5:9])[0]) == PASSWORD
    return "Postgres: asks for a password" if asks else f"Postgres: {answer!r}"


async def said(host: str, port: int, words: bytes) -> bytes | None:
    """What is answered to the first words of a connection; None if there is none."""
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
    """The codes that an open method and a query end with."""
    codes: list[str] = []
    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        for method in ("ServerReady", "ModelInfer"):
            call: Any = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(b"", timeout=_PATIENCE_S)
            codes.append(f"`{method}` {(await call.code()).name}")
    return ", ".join(codes)


def file_rows(processes: dict[psutil.Process, str], home: Path) -> Iterable[str]:
    """Sockets of this machine alone: whose their files are, and those that are only names."""
    for process, name in processes.items():
        for one in sockets(process, "unix"):
            path = str(one.laddr)
            if path.startswith("@"):
                yield f"| {name} | `{re.sub('[0-9]+', 'N', path)}` | not reached | a name, not read |"
            elif path:
                mode = (home / Path(path).name).stat().st_mode & 0o777
                yield f"| {name} | `{Path(path).name}` in its home | not reached | a file of its owner's ({mode:o}) |"
