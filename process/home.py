"""Home folder of processes: its name, and the socket by which their supervisor takes commands.

The name, `<host>-<four hex digits>`, is unique across machines and created once, so it survives restarts and changes of
the host name. A copy of the folder on another machine has the same name: remove the file `name` from the copy.

The supervisor owns its processes: it restarts them when they die, and they die with it. Clients keep no state: a new
client lists the processes and continues from there. Each connection carries one command and one reply, each a line of
JSON. Only the owner of the home folder can reach the socket. Its address goes through the file descriptor of the
folder, since an address is limited to 107 bytes and paths of home folders may be longer.
"""

import asyncio
import fcntl
import os
import re
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import InfaasError, OperatorError

_FILE: Final = "name"
_LONGEST_HOST: Final = 20
"""Maximum length of the host part; names of workers begin with it and should be short."""
SOCKET: Final = "workers.sock"
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 1 << 20


def home_name(home: Path) -> str:
    """Return the name of a folder; create it if absent. A file lock serializes concurrent callers."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / _FILE).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if name := file.read().strip():
            return name
        name = f"{_short_host()}-{secrets.token_hex(2)}"
        file.write(f"{name}\n")
        return name


def _short_host() -> str:
    host = socket.gethostname().partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", host)[:_LONGEST_HOST].strip("-") or "host"


class SupervisorCommand(msgspec.Struct, frozen=True, kw_only=True):
    """Command to the supervisor. It is idempotent: to start a running process or stop a stopped one changes nothing."""

    verb: str
    """`list`, `start` or `stop`."""
    name: str = ""
    """Name of the process to start or to stop."""


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one process that the supervisor was commanded to start."""

    name: str
    state: str
    """`starting`, `running`, `stopping` or `failed`."""
    reason: str = ""
    """Cause of the failure, with the end of the log."""


class ProcessPool(msgspec.Struct, frozen=True, kw_only=True):
    """Processes of one kind that the supervisor can start."""

    hardware: str
    """Hardware type that each process owns."""
    maximum: int
    """Maximum number of processes that run at once."""
    cores: int
    """Minimum number of cores that each may use."""
    memory_bytes: int
    """Minimum memory that each may use, in bytes."""


class CommandReply(msgspec.Struct, frozen=True, kw_only=True):
    """Reply of the supervisor: error or success, its processes, and the kinds of processes it can start."""

    error: str = ""
    """Reason why the command was refused; empty if it was executed."""
    processes: tuple[ProcessStatus, ...] = ()
    pools: tuple[ProcessPool, ...] = ()
    """Kinds of processes that it can start."""
    prefix: str = ""
    """Prefix of the names of its processes."""
    start_s: float = 0.0
    """Seconds from a start command until the process is ready, as last measured."""


class SupervisorUnavailable(InfaasError):
    """No supervisor runs in this home, or it does not answer."""


async def send_command(home: Path, command: SupervisorCommand) -> CommandReply:
    """Send a command to the supervisor of this home, and return its reply.

    Raises:
        SupervisorUnavailable: there is no supervisor, or it did not answer in time.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await _ask(home, command)
    except (OSError, TimeoutError, msgspec.DecodeError) as error:
        raise SupervisorUnavailable(f"no supervisor runs in {home} ({error}): start `infaas up` there") from error


@asynccontextmanager
async def command_server(home: Path, answer: Callable[[SupervisorCommand], CommandReply]) -> AsyncGenerator[None]:
    """Serve the commands to the supervisor of this home while the context is open.

    Raises:
        OperatorError: the socket cannot be created in `home`.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                command = msgspec.json.decode(await reader.readline(), type=SupervisorCommand)
                writer.write(msgspec.json.encode(answer(command)) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):  # the client is gone, or sent an invalid command
            pass
        finally:
            writer.close()

    (home / SOCKET).unlink(missing_ok=True)
    try:
        with _address(home) as path:
            server = await asyncio.start_unix_server(serve, path)
        (home / SOCKET).chmod(0o600)
    except OSError as error:
        raise OperatorError(f"cannot open {home / SOCKET}: {error}") from error
    async with server:
        yield
    (home / SOCKET).unlink(missing_ok=True)


async def _ask(home: Path, command: SupervisorCommand) -> CommandReply:
    with _address(home) as path:
        reader, writer = await asyncio.open_unix_connection(path, limit=_MOST_BYTES)
    try:
        writer.write(msgspec.json.encode(command) + b"\n")
        await writer.drain()
        return msgspec.json.decode(await reader.readline(), type=CommandReply)
    finally:
        writer.close()


@contextmanager
def _address(home: Path) -> Generator[str]:
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)
