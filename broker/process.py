"""A broker process this process owns: started with its log in a file, and never outliving us.

The kernel sends it SIGKILL when the thread that started it dies (PR_SET_PDEATHSIG), so that not even our own SIGKILL
leaves a broker behind. Linux only; elsewhere only a clean exit stops it.
"""

import asyncio
import ctypes
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError

from broker.client import open_admin
from broker.settings import KafkaSettings
from schemas.errors import OperatorError

HOST: Final = "127.0.0.1"
STOP_S: Final = 15.0
_TRY_EVERY_S: Final = 0.05
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)


@asynccontextmanager
async def running(
    command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """The process, while the context is open; then SIGTERM, and SIGKILL if it does not leave within 15 s.

    Raises:
        OperatorError: the command cannot be executed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,  # Ctrl-C is for us: we stop it when our services have drained
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            raise OperatorError(f"cannot start {command[0]}: {error}") from error
    try:
        yield process
    finally:
        await _stop(process)


async def wait_until_ready(
    process: asyncio.subprocess.Process, settings: KafkaSettings, log: Path, timeout_s: float
) -> None:
    """Wait until the broker answers a metadata request.

    Raises:
        OperatorError: it died, or did not answer in time; the message quotes the end of its log.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not await _answers(settings):
                if process.returncode is not None:
                    raise OperatorError(f"the broker exited with code {process.returncode}; {log} ends: {tail(log)}")
                await asyncio.sleep(_TRY_EVERY_S)
    except TimeoutError:
        raise OperatorError(f"the broker was not ready within {timeout_s:g} s; {log} ends: {tail(log)}") from None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def claim_port(port: int) -> int:
    """`port`, or a free one for 0.

    Raises:
        OperatorError: somebody listens on it.
    """
    if port == 0:
        return free_port()
    with socket.socket() as probe:
        # As the servers do: a port whose last connections are only waiting to be forgotten is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OperatorError(f"port {port} is taken ({error.strerror}); choose another with --kafka-port") from error
    return port


async def _answers(settings: KafkaSettings) -> bool:
    """Probes the socket first: aiokafka logs an error for each attempt that is refused."""
    host, _, port = settings.bootstrap.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    try:
        async with open_admin(settings) as admin:
            return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OperatorError):
        return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def tail(log: Path) -> str:
    """The end of a log, to quote in an error."""
    return log.read_bytes()[-800:].decode(errors="replace").strip() or "(nothing)"
