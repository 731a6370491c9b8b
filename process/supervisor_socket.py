"""Between one process that keeps others running and those that say which: a socket in the home.

The keeper owns its processes: it starts them again when they die, and they die with it. Whoever asks may come and go;
a successor asks what there is and goes on from there. One question a connection, one line of JSON each way.

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
    """What is asked of the keeper. To start what runs, or to stop what does not, changes nothing."""

    verb: str
    """`list`, `start` or `stop`."""
    name: str = ""


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A process that is to run."""

    name: str
    state: str
    """`starting`, `running`, `stopping` or `failed`."""
    reason: str = ""
    """Why it failed, with the end of its log."""


class CommandReply(msgspec.Struct, frozen=True, kw_only=True):
    """The keeper's answer."""

    error: str = ""
    """Why the order was not followed."""
    kept: tuple[ProcessStatus, ...] = ()
    hardware: str = ""
    """Of its processes."""
    maximum: int = 0
    """Processes that may run at once."""
    cores: int = 0
    """Of each process."""
    memory_bytes: int = 0
    """That each process may use."""
    start_s: float = 0.0
    """From an order to a process that is ready, as last measured."""


class SupervisorUnavailable(InfaasError):
    """Nobody keeps processes in this home now, or does not answer."""


async def send_command(home: Path, order: SupervisorCommand) -> CommandReply:
    """Give an order, and hear what runs then.

    Raises:
        KeeperAway: there is no keeper, or it did not answer in time.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await _ask(home, order)
    except (OSError, TimeoutError, msgspec.DecodeError) as error:
        raise SupervisorUnavailable(f"nobody keeps workers in {home} ({error}): start `infaas up` there") from error


@asynccontextmanager
async def command_server(home: Path, answer: Callable[[SupervisorCommand], CommandReply]) -> AsyncGenerator[None]:
    """Answer orders while the context is open.

    Raises:
        OperatorError: there can be no socket in `home`.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                order = msgspec.json.decode(await reader.readline(), type=SupervisorCommand)
                writer.write(msgspec.json.encode(answer(order)) + b"\n")
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


async def _ask(home: Path, order: SupervisorCommand) -> CommandReply:
    with _address(home) as path:
        reader, writer = await asyncio.open_unix_connection(path, limit=_MOST_BYTES)
    try:
        writer.write(msgspec.json.encode(order) + b"\n")
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
