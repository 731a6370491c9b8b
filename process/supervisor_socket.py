"""Commands to a supervisor, the process that keeps others running, through a socket in its home folder.

The supervisor owns its processes: it starts them again when they die, and they die with it. Whoever commands it may
come and go; a successor asks what runs and goes on from there. One command a connection, one line of JSON each way.

Only the home's owner can reach the socket. It is addressed by way of the folder's file descriptor, since the address
of a socket may be no longer than 107 bytes, and homes are.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import InfaasError, OperatorError

SOCKET: Final = "workers.sock"
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 1 << 20


class SupervisorCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command to the supervisor. Starting what runs, or stopping what does not, changes nothing."""

    verb: str
    """`list`, `start` or `stop`."""
    name: str = ""
    """Name of the process to start or to stop."""


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one process that the supervisor was told to start."""

    name: str
    state: str
    """`starting`, `running`, `stopping` or `failed`."""
    reason: str = ""
    """Why it failed, with the end of its log."""


class ProcessPool(msgspec.Struct, frozen=True, kw_only=True):
    """Processes of one kind that the supervisor can start."""

    hardware: str
    """Hardware type that each owns."""
    maximum: int
    """Number of them that may run at once."""
    cores: int
    """Cores that each may use, at least."""
    memory_bytes: int
    """Memory that each may use, at least."""


class CommandReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor answers: whether it obeyed, which processes there are, and what it can start."""

    error: str = ""
    """Why the command was not followed."""
    processes: tuple[ProcessStatus, ...] = ()
    pools: tuple[ProcessPool, ...] = ()
    """Kinds of processes that it can start."""
    prefix: str = ""
    """Beginning of the names of its processes."""
    start_s: float = 0.0
    """Seconds from a command to a process that is ready, as last measured."""


class SupervisorUnavailable(InfaasError):
    """No supervisor runs in this home, or it does not answer."""


async def send_command(home: Path, command: SupervisorCommand) -> CommandReply:
    """Send a command to the supervisor of this home, and return its answer.

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
    """Serve commands to this home's supervisor while the context is open.

    Raises:
        OperatorError: there can be no socket in `home`.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                command = msgspec.json.decode(await reader.readline(), type=SupervisorCommand)
                writer.write(msgspec.json.encode(answer(command)) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):  # whoever asked is gone, or asked nonsense
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
